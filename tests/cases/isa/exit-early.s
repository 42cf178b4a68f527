; test: verify, run            source: RFC 9669 §4.3
; two ways out
    r0 = *(u64 *)(r1 + 0)
    if r0 == 0 goto +1
    exit
    r0 = 42
    exit
; in 0x0 -> r0 = 0x2a
; in 0xffffffffffffffff -> r0 = 0xffffffffffffffff
