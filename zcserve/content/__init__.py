"""What is served, and how it is replaced while it is served.

A generation is built by a walk and loaded by `preload`; after that it changes in two ways:

- **A patch.** The watcher says what changed below the root; a thread looks at just that, loads it, and the loop lays
  the difference over the live generation, a piece between two turns. What was written meanwhile is left out: the
  watcher tells of it again when it is whole.
- **A flip.** The root leads elsewhere (`ln -sfn`), SIGHUP asked for it, or the watcher lost track: a thread builds
  the whole next generation beside the live one, sharing what is the same, and the loop changes one reference. What
  cannot be built leaves the old one serving. `keep_generations` of those that were flipped away stay reachable for
  requests that the live one has nothing for.

So a request meets old or new, never a mixture. Threads of two kinds, which all sites share (crews.py), do the work that
may block, of each site one job of a kind after another:

    content   take changes -> look -> load -> [loop: lay over, piece by piece]        catch up -> [loop: flip]
    builder                      walk -> preload -> catch up -> compare -> catch up -> /             retire, log

Patches go on while the next generation is built. That has a watcher of its own, which told it of the same changes; it
catches up with them before the flip, the last time in the thread of the patches, so that none is laid over the live
generation meanwhile: nothing that was served is older after a flip. Only a root that leads elsewhere is an end: what
happens to a release that is being replaced no longer matters.

The loop reads the watcher's events, says when, and does the last step of each job. No step of it is long, however much
has changed: it reads events for EVENTS_READ_S, and lays KEYS_LAID_AT_ONCE keys over at a time. Nor is any step in C of
the threads, for it holds the GIL.

The modules, in the order in which the content passes through them:

    builder    generations and patches of one root, loaded
    merging    what of one generation another one must know
    renewals   files that are found changed when they are asked for, and the process that takes over
    crews      the threads: a few, however many sites there are
    garbage    what releases leave, collected once for all
    news       what the kernel tells of changes, read in the loop
    jobs       one site's jobs in these threads, and the steps that they have the loop make
    live       what is served and followed now: laying over, flipping
    preparing  a release that is loaded before the root leads to it
    releases   the next generation: built, compared, flipped to, what it replaces retired
    noted      what changes while something is made of the same files
    handing    the site that a reload makes of them, and takes this one's place
    patches    what the watcher tells of
    rechecks   what no watcher tells of
    warming    files that are loaded before they are asked for
    pinning    what is pinned, while it is served
    purging    what is looked at anew, or thrown away, since somebody says so
    readiness  whether all is in memory that is to be
    looks      what is used, counted now and then
    heat_file  how hot files are, kept between two processes
    content    all of it for the server, and when each is due
    told       the same in words, for the log
"""
