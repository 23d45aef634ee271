"""What the operator of a node asks and tells it, off the public port.

A request of an operator goes the way of any other: a `Site` without files, whose application (`application.py`) finds a
*route* by its path. So the parser, the limits, HEAD and pipelining are those of the server. But it never meets the fast
lane, and counts among no clients: its connections have a `Service` of their own.

    door         listens and accepts: few connections, none of which anything else waits for
    application  finds the route, and asks who is allowed to
    guard        who is: a token, where it is wanted; no page of another site, by way of a browser
    probes       /livez, /readyz, /warmz
    stats        /stats, /metrics
    snapshot     one look at all that is counted
    survey       which files are hot, and which do not fit
    metrics      a snapshot in the formats of Prometheus
    events       a snapshot each second, as server-sent events
    dashboard    a page that shows them, and tells verbs; its sources are in page/
    words        what can be told: names and words, read from JSON, and refused by name; pure, `zcserve ctl` reads it
    verbs        a wording, and what is done when it is said
    orders       the verbs that there are
    node         what all of these know of the server
    tickers      content that goes on: a piece each second, at the client's pace

The server makes a `Node` before anything is loaded, and fills it in as its parts come to be.
"""
