; test: verify    source: in an arena the JIT for x86 has no atomic operation that takes a loop
; section: syscall
    .map memory type=arena map_flags=0x400 max_entries=4 map_extra=0x10000000
    r1 = memory ll
    r2 = 0
    r2 = addr_space_cast(r2, 0, 1)
    r3 = 1
    r3 = atomic_fetch_add((u64 *)(r2 + 0), r3)
    r3 = atomic_fetch_or((u64 *)(r2 + 0), r3)
    r0 = 0
    exit
; error V0213 at 6: r2 points into an arena, where an atomic and, or, xor cannot return the old value
