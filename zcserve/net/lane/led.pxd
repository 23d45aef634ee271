# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Led: leads (leads.pxd) are put into the table of their site, and go.

What is put here is put while Python is asked where a path leads (finding.pxd), in the middle of a turn. So no record of a file is replaced.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from zcserve.net.lane.atomic cimport release
from zcserve.net.lane.counts cimport CODES
from zcserve.net.lane.leads cimport (
    LEAD_BYTES_MAX, LEADS_BYTES_MAX, Lead, Leads, lead_of, link, next_to_go, record_of_lead, unlink,
)
from zcserve.net.lane.records cimport QUERY_PLAIN, Record, Rep, free_record, key_at, new_record, record_of_page
from zcserve.net.lane.table cimport Table, drop_key, find_key, hash_of, insert_or_free, moved, put_file, stands_in, text_of
from zcserve.net.lane.text cimport Text


cdef inline void void_leads(Table *table) noexcept nogil:
    """A key leads elsewhere from now on, or rules may: told before anything is put that does."""
    release(&table.version, table.version + 1)


cdef inline int lead_to_file(Table *table, bytes key, bytes target, tuple entries, int status, int any_query) except -1:
    """Have a key lead to what stands at another one, a file of these entries; said with this status. Raises ValueError, MemoryError."""
    cdef Record *record = find_key(table, text_of(target))
    cdef Record *lead
    check_lead(status, any_query, b"")
    if record == NULL:
        record = moved(table, text_of(target))
    if record == NULL or record.front:
        put_file(table, target, entries, True)
        record = find_key(table, text_of(target))
    lead = new_lead(key, target)
    if record != NULL and not record.front:
        lead_of(lead).target = record
        lead_of(lead).drops = table.drops
    return put_lead(table, lead, status, any_query)


cdef inline int lead_to_page(Table *table, bytes key, int status, bytes head, bytes content, int any_query) except -1:
    """Have a key lead to a page: what stands behind the prefix, of a redirect the location last; without a head to the page for what is
    absent. Raises ValueError, MemoryError."""
    cdef Record *record
    check_lead(status, any_query, head)
    if not head:
        return put_lead(table, new_lead(key, b""), status, any_query)
    record = record_of_page(key, status, head, content, sizeof(Lead))
    lead_of(record).bytes = sizeof(Lead) + sizeof(Record) + sizeof(Rep) + len(key) + len(head) + len(content)
    return put_lead(table, record, status, any_query)


cdef inline int check_lead(int status, int any_query, bytes head) except -1:
    """Raises ValueError."""
    if not 0 <= status < CODES or not 0 <= any_query <= QUERY_PLAIN:
        raise ValueError(f"no status or no queries: {status}, {any_query}")
    if head and not head.endswith(b"\r\n\r\n"):
        raise ValueError("not a head")
    return 0


cdef inline Record *new_lead(bytes key, bytes target) except NULL:
    """A record that leads to another key, or with b"" to the page for what is absent. Raises MemoryError."""
    cdef Text own = text_of(key), its = text_of(target)
    cdef Record *record = new_record(NULL, own.len + its.len, NULL, 0, sizeof(Lead))
    if record == NULL:
        raise MemoryError
    memcpy(key_at(record), own.at, own.len)
    memcpy(key_at(record) + own.len, its.at, its.len)
    record.key_len = <uint32_t> own.len
    lead_of(record).target_len = <uint32_t> its.len
    lead_of(record).bytes = sizeof(Lead) + sizeof(Record) + own.len + its.len
    return record


cdef inline int put_lead(Table *table, Record *record, int status, int any_query) except -1:
    """Put a lead that holds for what keys lead to now. Others go, so that there is room for it."""
    cdef Lead *lead = lead_of(record)
    record.status = <uint8_t> status
    record.any_query = <uint8_t> any_query
    lead.version = table.version
    if lead.target_len:
        lead.target_hash = hash_of(table.seed, key_at(record) + record.key_len, lead.target_len)
    drop_key(table, Text(key_at(record), record.key_len))
    if lead.bytes > LEAD_BYTES_MAX:
        free_record(record)
        return 0
    while table.leads.bytes + lead.bytes > LEADS_BYTES_MAX:
        drop_lead(table.leads, next_to_go(table.leads))
    if insert_or_free(table, record):
        lead.table = table
        link(table.leads, lead)
    return 0


cdef inline int drop_lead(Leads *leads, Lead *lead) except -1:
    """It is none any more, also where its table was left behind, and lets it go later."""
    cdef Table *table = <Table *> lead.table
    cdef const Record *record = record_of_lead(lead)
    unlink(leads, lead)
    if stands_in(table, record):
        drop_key(table, Text(key_at(record), record.key_len))
    return 0
