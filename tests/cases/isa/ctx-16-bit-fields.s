; test: verify, run            fields that the kernel keeps in 16 bits are cut when they are stored
; type: sched_cls
    r6 = r1
    r0 = 0
    r2 = 0x12345678
    *(u32 *)(r6 + 44) = r2
    r0 = *(u32 *)(r6 + 44)
    r2 = 0xffff
    *(u32 *)(r6 + 12) = r2
    r3 = 7
    *(u32 *)(r6 + 12) = r3
    *(u32 *)(r6 + 12) = r2
    r4 = *(u32 *)(r6 + 12)
    r4 <<= 16
    r0 |= r4
    exit
; data 000102030405060708090a0b0c0d0e0f -> r0 = 0x75678
