; test: verify    source: of a bloom filter, bpf_map_peek_elem reads the value that its other maps write
; section: socket
; caps: bpf
    .map seen type=bloom_filter key_size=0 value_size=4 max_entries=16
    r2 = r10
    r2 += -4
    r1 = seen ll
    call bpf_map_peek_elem
    r0 = 0
    exit
; error V0301 at 4: r2 reads bytes -4 to 0 of a stack that was never written
