; test: verify, run            source: RFC 9669 §5.5
; type: socket_filter
; out of range ends the program with 0
    r6 = r1
    r0 = *(u16 *)skb[16]
    r0 += 1
    exit
; data 000102030405060708090a0b0c0d0e0f8081828384858687fffefdfcfbfaf9f8 -> r0 = 0xf9f9
; data 000102030405060708090a0b0c0d -> r0 = 0x0
; data 000102030405060708090a0b0c0d0e0fffffffff -> r0 = 0x0
