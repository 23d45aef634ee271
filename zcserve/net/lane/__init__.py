"""The units of the compiled lane: `net/_lane.pyx` is compiled with these `.pxd` files into one extension module.

    system text atomic growing  <  scan dates gil steady requests mail parcels counts memos
        <  seconds lanes mapped records  <  withdrawn grammar choice uses owners leads
        <  numbers  <  hashes ranges sightings table  <  conditions absent led  <  owned  <  sites
        <  finding hosts  <  judged  <  head  <  proxies log_fields
        <  log output  <  timed  <  connections parts news  <  servlets shared
        <  endings moving  <  accepting shedding asking  <  sending  <  answering
        <  replying trials  <  loop  <  letters  <  opening  <  _lane

| unit        | what it does                                                                |
|-------------|-----------------------------------------------------------------------------|
| system      | what is taken from the system and from CPython                              |
| text        | classes of characters, comparisons, decimal numbers, hashes                 |
| atomic      | how one thread reads what another writes                                    |
| mail        | letters between lanes, and orders                                           |
| parcels     | what a lane has gathered goes to Python's thread                            |
| counts      | what a lane has answered, sent and accepted, and how long answers took      |
| lanes       | what each lane lets the others see, and when what was withdrawn is freed    |
| scan        | where a target, a name, a value or a tag ends                               |
| dates       | the seconds that a date says                                                |
| seconds     | when a lane looks at the clock, and the texts of a second                   |
| records     | what can be sent, and how long it lives                                     |
| leads       | what rules answer where no file is, which files they lead to               |
| led         | putting them into the table, and when they are void                        |
| withdrawn   | what no lane finds any more, and one may be reading still                   |
| mapped      | large content in memory, and its pages into a socket                        |
| grammar     | what the value of a field means                                             |
| hashes      | a set of hashes, which any lane may ask what is not in it                   |
| hosts       | which site a host is for                                                    |
| memos       | what was found out about a text, kept by the text                           |
| judged      | what a value means, as the grammar says it or else Python                   |
| steady      | arrays that grow where they are                                             |
| growing     | lists that may lie elsewhere when they have grown                           |
| requests    | what servlets are called with                                               |
| gil         | when the interpreter's lock is held                                         |
| ranges      | a Range field -> a part of content                                          |
| conditions  | what conditions and ranges decide                                           |
| choice      | which representation a request gets                                         |
| sightings   | uses that are sampled                                                       |
| uses        | uses that Python is told of                                                 |
| owners      | which record a number belongs to, and which numbers an entry has            |
| numbers     | which number means which representation; its uses are told by that          |
| table       | key -> record of one site; growing and clearing in pieces                   |
| sites       | what is known of each site, and of an entry in whichever site               |
| head        | bytes -> a request's head                                                   |
| proxies     | the client that a trusted peer names                                        |
| log_fields  | what stands behind a line of the access log                                 |
| log         | lines of the access log                                                     |
| news        | what another lane has for Python's thread                                   |
| output      | answers that are gathered and sent, and what is left of one                 |
| timed       | lines that say how long their requests took                                 |
| parts       | answers whose head is made when they are asked for: 206, 301, 412, 416      |
| connections | which connections there are, and whose they are                             |
| moving      | a connection that goes from one lane to another                             |
| accepting   | which lane takes a new client                                               |
| endings     | how connections end, and when                                               |
| shedding    | which connections are closed when there are too many                        |
| absent      | which keys lead nowhere, and the answer to them                             |
| owned       | which paths an application may own                                          |
| servlets    | functions of Python's that are called from here                             |
| shared      | what several lanes would look at, and Python's thread alone writes          |
| finding     | what Python teaches when it is asked for                                    |
| asking      | what another lane asks the first one, and what comes back                    |
| sending     | what a lane has while it answers, and how answers leave                     |
| answering   | the bytes of one connection -> answers, or a connection that is handed over |
| replying    | what other lanes ask is answered in the first one                           |
| trials      | single steps, for tests and the fuzzer                                      |
| loop        | turns of epoll, and each connection's share of them                         |
| letters     | what a lane does when others have written to it                             |
| opening     | a lane is made, and given back                                              |

A unit is structs, which are passed by pointer, and functions, which are all inline. So there is one extension module
with one runtime of Cython's, and a call from one unit into another costs what a call inside a unit costs. A `.pxd`
can hold no variables and no classes: what a unit keeps stands in its struct, and `Lane` is the only class. A function
gets the structs that it works on, never more; `Answering` and `Loop` hold those of the units below them.

`digest` tells which sources a compiled lane is of: setup.py, which runs this file by itself, writes it into the lane.
"""

from hashlib import sha256
from pathlib import Path


def digest(folder: Path) -> str:
    """Of the text that the lane in this folder (net/) is compiled from; "" where that is not there."""
    sources = [folder / "_lane.pyx", *sorted((folder / "lane").glob("*.pxd"))]
    if not sources[0].exists():
        return ""
    return sha256(b"\0".join(part for path in sources for part in (path.name.encode(), path.read_bytes()))).hexdigest()
