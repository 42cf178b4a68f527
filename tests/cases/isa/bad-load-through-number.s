; test: verify                 source: RFC 9669
    r1 = 8
    r0 = *(u64 *)(r1 + 0)
    exit
; error V0202 at 1: r1 is a scalar and must not be dereferenced
