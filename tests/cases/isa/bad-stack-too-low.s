; test: verify                 source: RFC 9669
    *(u64 *)(r10 - 520) = 0
    r0 = 0
    exit
; error V0301 at 0: r10 accesses bytes -520 to -512 of a stack that ends at 0 and starts at -512
