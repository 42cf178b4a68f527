; test: verify                 source: RFC 9669
    r10 = 0
    r0 = 0
    exit
; error V0102 at 0: r10, the frame pointer, is read-only
