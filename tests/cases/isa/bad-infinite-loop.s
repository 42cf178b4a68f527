; test: verify                 source: RFC 9669
    r0 = 0
again:
    goto again
; error C0101 at 1: the loop at slot 1 comes back to the same state: it would never end
