; test: verify, run            source: RFC 9669 §5.5
; type: socket_filter
    r6 = r1
    r7 = 10
    r0 = *(u32 *)skb[r7 + 3]
    r8 = r0
    r0 = *(u32 *)skb[r7]
    r0 ^= r8
    exit
; data 000102030405060708090a0b0c0d0e0f8081828384858687fffefdfcfbfaf9f8 -> r0 = 0x3050705
; data 000102030405060708090a0b0c0d -> r0 = 0x0
