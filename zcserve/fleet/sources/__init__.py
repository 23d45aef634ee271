"""Where the files of a release come from: a directory, an origin over HTTP, a bucket of S3, an object store of NATS.

    source      what they have in common, and what can go wrong
    directory   a directory of this machine
    origin      an origin over HTTP or HTTPS (urllib3)
    bucket      S3 and what speaks as it does (obstore)
    objects     an object store of NATS (nats-py)
    choosing    which one an address means

A source gives bytes from a place on, and no promises: `zcserve.fleet.fetching` compares what came with the manifest,
waits, and asks again. So a source asks once, and says what it is told. What a source needs besides zcserve is imported
with its own module.
"""
