; test: verify                 source: RFC 9669
    r0 = 0
    goto +5
    exit
; error V0002 at 1: the jump to slot 7 leaves its function (slots 0 to 2)
