; test: verify, run            source: RFC 9669 §5.1
; words: src, its low 8, 16, 32, 64 bits, then -1, 0, 0x12345678, -0x80000000 in 8, 16, 32, 64 bits
; memory: 21
    r2 = *(u64 *)(r1 + 0)
    *(u8 *)(r1 + 8) = r2
    *(u16 *)(r1 + 16) = r2
    *(u32 *)(r1 + 24) = r2
    *(u64 *)(r1 + 32) = r2
    *(u8 *)(r1 + 40) = -1
    *(u8 *)(r1 + 48) = 0
    *(u8 *)(r1 + 56) = 305419896
    *(u8 *)(r1 + 64) = -2147483648
    *(u16 *)(r1 + 72) = -1
    *(u16 *)(r1 + 80) = 0
    *(u16 *)(r1 + 88) = 305419896
    *(u16 *)(r1 + 96) = -2147483648
    *(u32 *)(r1 + 104) = -1
    *(u32 *)(r1 + 112) = 0
    *(u32 *)(r1 + 120) = 305419896
    *(u32 *)(r1 + 128) = -2147483648
    *(u64 *)(r1 + 136) = -1
    *(u64 *)(r1 + 144) = 0
    *(u64 *)(r1 + 152) = 305419896
    *(u64 *)(r1 + 160) = -2147483648
    r0 = 0
    exit
; in 0x123456789abcdef0 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa 0xaaaaaaaaaaaaaaaa -> r0 = 0x0, out 0x123456789abcdef0 0xaaaaaaaaaaaaaaf0 0xaaaaaaaaaaaadef0 0xaaaaaaaa9abcdef0 0x123456789abcdef0 0xaaaaaaaaaaaaaaff 0xaaaaaaaaaaaaaa00 0xaaaaaaaaaaaaaa78 0xaaaaaaaaaaaaaa00 0xaaaaaaaaaaaaffff 0xaaaaaaaaaaaa0000 0xaaaaaaaaaaaa5678 0xaaaaaaaaaaaa0000 0xaaaaaaaaffffffff 0xaaaaaaaa00000000 0xaaaaaaaa12345678 0xaaaaaaaa80000000 0xffffffffffffffff 0x0 0x12345678 0xffffffff80000000
; in 0x80818283ff8586f7 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 -> r0 = 0x0, out 0x80818283ff8586f7 0xf7 0x86f7 0xff8586f7 0x80818283ff8586f7 0xff 0x0 0x78 0x0 0xffff 0x0 0x5678 0x0 0xffffffff 0x0 0x12345678 0x80000000 0xffffffffffffffff 0x0 0x12345678 0xffffffff80000000
