; test: verify                 source: RFC 9669
    call pc+9
    exit
; error V0006 at 0: the call leads to slot 10, outside of the program
