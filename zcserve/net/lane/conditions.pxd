# cython: language_level=3
# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Conditions and ranges: the fields that make an answer depend on more than its target, and what they decide.

The twin of net/negotiate.py's `decide`, with what net/fields.py and http.py read in the values (RFC 9110 sections 8.8.3, 13.1, 13.2.2):
exactly their decision, or UNSURE. Unsure are several ranges, an If-Range with a date of the last seconds, and what dates.pxd is unsure
about. A field that comes twice is the general lane's before this is asked (`note_condition`). Every read is bounded by the end of the
value.

Odd: most clients send the tag and the date that they got, so these are compared as text first, and read only where they differ.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcmp

from zcserve.net.lane.dates cimport FIXDATE_LEN, NO_DATE, read_date
from zcserve.net.lane.grammar cimport ELEMENTS_MAX, UNSURE
from zcserve.net.lane.ranges cimport Part, resolve_range
from zcserve.net.lane.records cimport Rep, own_tag
from zcserve.net.lane.scan cimport tag_end
from zcserve.net.lane.text cimport Text, skip_blanks

cdef enum:                       # which field; `Conditions.present` has a bit for each
    NONE_MATCH = 0
    MODIFIED_SINCE = 1
    RANGE = 2
    IF_RANGE = 3
    MATCH = 4
    UNMODIFIED_SINCE = 5
    CONDITIONS = 6

cdef struct Conditions:          # values are set where `present` says so
    unsigned int present
    Text values[CONDITIONS]

cdef struct Tags:                # what a list of entity tags says of one tag
    bint well_formed
    int count                    # of tags
    bint any                     # it is `*`
    bint matches                 # by weak comparison
    bint matches_strongly

cdef inline bint note_condition(Conditions *conditions, int which, Text value) noexcept nogil:
    """Keep a field's value; False where there is one already."""
    cdef unsigned int bit = 1u << which
    if conditions.present & bit:
        return False
    conditions.present |= bit
    conditions.values[which] = value
    return True


cdef inline bint has(const Conditions *conditions, int which) noexcept nogil:
    return (conditions.present >> which) & 1


cdef inline int decide(
    const Conditions *conditions, const Rep *rep, bint is_get, int ranges_max, int64_t now, Part *part
) noexcept nogil:
    """As negotiate.decide: 200, 206 with its `part`, 304, 412, 416; or UNSURE. `now` is the second."""
    cdef Tags tags
    cdef int64_t date
    if has(conditions, MATCH):
        tags = read_tags(conditions.values[MATCH], rep)
        if not (tags.any or (tags.well_formed and tags.matches_strongly)):
            return 412
    elif has(conditions, UNMODIFIED_SINCE) and rep.modified != NO_DATE:
        if not date_of(conditions.values[UNMODIFIED_SINCE], rep, now, &date):
            return UNSURE
        if date != NO_DATE and rep.modified > date:
            return 412
    if has(conditions, NONE_MATCH):
        if is_the_tag(conditions.values[NONE_MATCH], rep):
            return 304
        tags = read_tags(conditions.values[NONE_MATCH], rep)
        if tags.any or (tags.well_formed and tags.matches):
            return 304
    elif has(conditions, MODIFIED_SINCE) and rep.modified != NO_DATE:
        if not date_of(conditions.values[MODIFIED_SINCE], rep, now, &date):
            return UNSURE
        if date != NO_DATE and rep.modified <= date:
            return 304
    if not is_get or not has(conditions, RANGE):
        return 200
    return decide_range(conditions, rep, ranges_max, now, part)


cdef inline int decide_range(const Conditions *conditions, const Rep *rep, int ranges_max, int64_t now, Part *part) noexcept nogil:
    """200, 206, 416 or UNSURE, where the other conditions hold (RFC 9110 sections 13.1.5, 14.2). A date in If-Range is a strong
    validator where the file could not have changed again within its second."""
    cdef Tags tags
    cdef int64_t date
    if not has(conditions, IF_RANGE) or is_the_tag(conditions.values[IF_RANGE], rep):
        return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part)
    tags = read_tags(conditions.values[IF_RANGE], rep)
    if tags.well_formed and tags.count == 1 and not tags.any:
        return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part) if tags.matches_strongly else 200
    if not date_of(conditions.values[IF_RANGE], rep, now, &date):
        return UNSURE
    if date == NO_DATE or rep.modified != date:
        return 200
    if rep.modified >= now - 1:
        return UNSURE            # the second may be over by the time that the twin looks at it
    return resolve_range(conditions.values[RANGE], rep.size, ranges_max, part)


# --- entity tags --------------------------------------------------------------------------------------------


cdef inline bint is_the_tag(Text value, const Rep *rep) noexcept nogil:
    """Whether a value is the representation's own tag, and nothing else."""
    return value.len == rep.tag_len and memcmp(value.at, own_tag(rep).at, value.len) == 0


cdef inline Tags read_tags(Text value, const Rep *rep) noexcept nogil:
    """As http.parse_entity_tags, and what of it matches (RFC 9110 sections 8.8.3.2, 13.1.1, 13.1.2)."""
    cdef Tags tags = Tags(False, 0, False, False, False)
    cdef const char *p = value.at
    cdef const char *end = value.at + value.len
    cdef const char *tag
    cdef bint weak
    if value.len >= ELEMENTS_MAX and commas(value) >= ELEMENTS_MAX:
        return tags
    if value.len == 1 and p[0] == c'*':
        tags.any = True
        return tags
    while p < end:
        p = skip_blanks(p, end)
        weak = end - p >= 3 and p[0] == c'W' and p[1] == c'/' and p[2] == c'"'
        tag = p + 2 * weak
        if tag < end and tag[0] == c'"':
            p = tag_end(tag + 1, end)
            if p == end or p[0] != c'"':
                return tags
            p += 1
            tags.count += 1
            if is_the_tag(Text(tag, p - tag), rep):
                tags.matches = True
                tags.matches_strongly |= not weak
            p = skip_blanks(p, end)
        if p < end:
            if p[0] != c',':
                return tags
            p += 1
    tags.well_formed = True
    return tags


cdef inline int commas(Text value) noexcept nogil:
    cdef int n = 0
    cdef size_t i
    for i in range(value.len):
        n += value.at[i] == c','
    return n


# --- dates --------------------------------------------------------------------------------------------------


cdef inline bint date_of(Text value, const Rep *rep, int64_t now, int64_t *seconds) noexcept nogil:
    """As `read_date`; the representation's own date need not be read."""
    if rep.date and value.len == FIXDATE_LEN and memcmp(value.at, rep.head + rep.date, FIXDATE_LEN) == 0:
        seconds[0] = rep.modified
        return True
    return read_date(value, now, seconds)
