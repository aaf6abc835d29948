# A guest of one boot sector that fails on demand, one letter on its serial port at a time:
#
#   p  power off            r  reboot by the keyboard controller     c  panic (isa pvpanic)
#   w  watchdog (ib700) that fires at once
#   d  read a sector of the second disk: answers + or -
#
# Any other letter is sent back. The ACPI power button powers off. Between two letters it halts, and each time that it wakes
# it changes 128 pages of its memory, so that a slow live migration of it has no end.
#
#   as --32 -o testguest.o testguest.s && ld -m elf_i386 -Ttext=0x7c00 --oformat binary -o testguest.bin testguest.o

        .code16
        .globl  _start

        .set    COM1, 0x3f8
        .set    COM1_STATUS, 0x3fd
        .set    PM1_STATUS, 0x600       # machine "pc": the ACPI registers are where SeaBIOS puts them
        .set    PM1_ENABLE, 0x602
        .set    PM1_CONTROL, 0x604
        .set    POWER_BUTTON, 0x100
        .set    SLEEP_S5, 0x2000

_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $_start, %sp
        cld
        sti
        movw    $PM1_ENABLE, %dx
        movw    $POWER_BUTTON, %ax
        outw    %ax, %dx

wait:   movw    $PM1_STATUS, %dx
        inw     %dx, %ax
        testw   $POWER_BUTTON, %ax
        jnz     off
        movw    $COM1_STATUS, %dx
        inb     %dx, %al
        andw    $1, %ax
        jnz     letter
        movw    $0x1000, %bx
1:      movw    %bx, %es
        incw    %es:0
        addw    $0x100, %bx             # a page further
        cmpw    $0x9000, %bx
        jb      1b
        movw    %ax, %es
        hlt                             # the BIOS' timer wakes it 18 times a second
        jmp     wait

letter: movw    $COM1, %dx
        inb     %dx, %al
        movw    $orders, %si
1:      cmpb    (%si), %al
        je      2f
        addw    $3, %si
        cmpw    $orders_end, %si
        jb      1b
        call    say
        jmp     wait
2:      jmp     *1(%si)

orders: .byte   'p'
        .word   off
        .byte   'r'
        .word   reboot
        .byte   'c'
        .word   panic
        .byte   'w'
        .word   dog
        .byte   'd'
        .word   disk
orders_end:

off:    movw    $PM1_CONTROL, %dx
        movw    $SLEEP_S5, %ax
        outw    %ax, %dx
        jmp     stand

reboot: movb    $0xfe, %al
        outb    %al, $0x64
        jmp     stand

panic:  movw    $0x505, %dx
        movb    $1, %al
        outb    %al, %dx
        jmp     wait

dog:    movw    $0x443, %dx
        movb    $0x0f, %al              # the shortest time there is: none
        outb    %al, %dx
        jmp     wait

disk:   movw    $0x0201, %ax            # read, one sector
        movw    $0x0005, %cx            # cylinder 0, sector 5
        movw    $0x0081, %dx            # head 0, second disk
        movw    $0x8000, %bx
        int     $0x13
        movb    $'+', %al
        jnc     1f
        movb    $'-', %al
1:      call    say
        jmp     wait

stand:  hlt
        jmp     stand

say:    pushw   %ax
        movw    $COM1_STATUS, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        popw    %ax
        movw    $COM1, %dx
        outb    %al, %dx
        ret
