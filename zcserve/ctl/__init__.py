"""The operator's side of the admin listener: a shell's commands, live numbers in a terminal, completion.

It talks to a node over a socket, and shares two things with the server: the table of wordings (admin/words.py), and
how an address is written (config/addresses.py). It imports nothing else of it, so that `zcserve ctl ready` is quick.

    commands    what there is: the views, and a command for each wording; their flags
    arguments   a command line -> values and operands
    client      one request to a node, and why it cannot be had
    whereabouts which node: from flags, the environment, a file
    figures     an answer -> text for people
    waiting     `ctl wait`: until the node is ready
    shell       `zcserve ctl`: a command -> an exit code
    rates       two answers of /stats -> what happens in a second
    screen      that -> lines of a terminal
    top         `zcserve top`: the terminal
    completion  `zcserve completion`: the same tables -> scripts of bash, zsh and fish
"""
