"""What is served under one set of host names, as data, and what answers there where no file does.

    accounts   the names under which requests are counted
    reply      what a request is answered with
    exchange   what a request and an application say to each other: the application's protocol
    site       generations, pins, application; what a request asks of them

Knows no connection and no protocol of the network (net/); what builds a site's generations is content/, and
applications are servlets/.
"""
