; test: verify, run            source: RFC 9669 §4.1
; words: dst, 32-bit result; r0 is the 64-bit result
; memory: 2
    r0 = *(u64 *)(r1 + 0)
    r2 = r0
    w2 = -w2
    *(u64 *)(r1 + 8) = r2
    r0 = -r0
    exit
; in 0x0 -> r0 = 0x0
; in 0x1 -> r0 = 0xffffffffffffffff, out 0x1 0xffffffff
; in 0x7 -> r0 = 0xfffffffffffffff9, out 0x7 0xfffffff9
; in 0xffffffffffffffff -> r0 = 0x1, out 0xffffffffffffffff 0x1
; in 0x7fffffff -> r0 = 0xffffffff80000001, out 0x7fffffff 0x80000001
; in 0x80000000 -> r0 = 0xffffffff80000000, out 0x80000000 0x80000000
; in 0xffffffff -> r0 = 0xffffffff00000001, out 0xffffffff 0x1
; in 0x100000000 -> r0 = 0xffffffff00000000
; in 0x7fffffffffffffff -> r0 = 0x8000000000000001, out 0x7fffffffffffffff 0x1
; in 0x8000000000000000 -> r0 = 0x8000000000000000
; in 0x123456789abcdef0 -> r0 = 0xedcba98765432110, out 0x123456789abcdef0 0x65432110
