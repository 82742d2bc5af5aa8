# The guest of the acceleration probe: a multiboot image that does, in a few
# milliseconds, what an operating system kernel does while it starts, and says on
# the debug console (port 0xe9) how far it came. Each letter is written when
# the stage that it names has passed:
#
#   P  32-bit protected mode, loaded by the multiboot option ROM
#   L  paging and long mode
#   M  model-specific registers: system call entry, segment bases, PAT, and the
#      paravirtual clock where the hypervisor offers it
#   X  an exception is taken and returned from
#   F  a page fault is resolved by a handler that maps the page
#   T  timer interrupts of the local APIC wake the CPU from HLT
#   U  ring 3 by sysret, a system call from there, and back by an interrupt
#   S  the second CPU starts, reaches long mode and answers an interrupt
#
# Then it leaves by the isa-debug-exit device at port 0x501. Everything waits in
# HLT or a spin; a deadline outside ends a guest that hangs.
#
# Assemble with generate.sh; guest.bin is its output.

.intel_syntax noprefix

.set LOAD,      0x100000
.set PML4,      0x200000      # then the PDPT and four page directories
.set PDPT,      0x201000
.set PD,        0x202000
.set IDT,       0x208000
.set TSS,       0x209000
.set CLOCK,     0x20a000      # the paravirtual clock's structure
.set STACK,     0x300000
.set USTACK,    0x310000
.set ISTACK,    0x320000      # where interrupts from ring 3 land
.set APSTACK,   0x330000
.set HOLE,      0x600000      # the 2 MiB that the page fault maps
.set TRAMP,     0x8000        # where the second CPU starts, in real mode
.set APIC,      0xfee00000
.set TICKS,     20

.macro say letter
	mov	al, \letter
	out	0xe9, al
.endm

	.code32
	.globl	_start
_start:
	jmp	boot
	.align	4
header:	.long	0x1badb002              # multiboot: magic, flags (addresses below), checksum
	.long	0x00010000
	.long	-(0x1badb002 + 0x00010000)
	.long	header, LOAD, end, end, _start

boot:	cli
	mov	esp, STACK
	lgdt	[gdtr]
	ljmp	0x08, offset segments
segments:
	mov	ax, 0x18
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	say	'P'

	# Identity map of 4 GiB in pages of 2 MiB, open to ring 3; the last GiB,
	# where the APIC is, uncached.
	xor	eax, eax
	mov	edi, PML4
	mov	ecx, 0x8000 / 4
	cld
	rep	stosd
	mov	dword ptr [PML4], PDPT + 7
	mov	dword ptr [PDPT], PD + 7
	mov	dword ptr [PDPT + 8], PD + 0x1007
	mov	dword ptr [PDPT + 16], PD + 0x2007
	mov	dword ptr [PDPT + 24], PD + 0x3007
	mov	edi, PD
	mov	eax, 0x87
fill:	mov	[edi], eax
	add	edi, 8
	add	eax, 0x200000
	jnc	fill
	mov	edi, PD + 0x3000
	mov	ecx, 512
uncache:
	or	byte ptr [edi], 0x18
	add	edi, 8
	loop	uncache
	mov	dword ptr [PD + (HOLE >> 21) * 8], 0

	mov	ebx, offset main64
long_mode:                              # both CPUs pass here; ebx says where to go
	mov	eax, cr4
	or	eax, 0x6a0              # PAE, PGE, OSFXSR, OSXMMEXCPT
	mov	cr4, eax
	mov	eax, PML4
	mov	cr3, eax
	mov	ecx, 0xc0000080         # EFER: SCE, LME, NXE
	rdmsr
	or	eax, 0x901
	wrmsr
	mov	eax, cr0
	or	eax, 0x80010022         # PG, WP, NE, MP
	mov	cr0, eax
	ljmp	0x10, offset compat
	.code64
compat:
	mov	ax, 0x18
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	eax, ebx
	jmp	rax

main64:
	say	'L'
	mov	ecx, 0xc0000081         # STAR: kernel 0x10, user 0x20
	xor	eax, eax
	mov	edx, 0x00200010
	wrmsr
	mov	ecx, 0xc0000082         # LSTAR
	mov	eax, offset syscalled
	xor	edx, edx
	wrmsr
	mov	ecx, 0xc0000084         # SFMASK: interrupts off in the handler
	mov	eax, 0x200
	wrmsr
	mov	ecx, 0xc0000100         # FS, GS and kernel GS base
	mov	eax, TSS
	wrmsr
	inc	ecx
	wrmsr
	inc	ecx
	wrmsr
	swapgs
	swapgs
	mov	ecx, 0x277              # PAT, to what it was
	rdmsr
	wrmsr
	mov	ecx, 0x1b               # APIC base: enabled
	rdmsr
	or	eax, 0x800
	wrmsr
	mov	eax, 0x40000000         # a "KVMKVMKVM" hypervisor with a clock?
	cpuid
	cmp	ebx, 0x4b4d564b
	jne	noclock
	mov	eax, 0x40000001
	cpuid
	test	eax, 8
	jz	noclock
	mov	ecx, 0x4b564d01
	mov	eax, CLOCK + 1
	xor	edx, edx
	wrmsr
clock:	pause
	cmp	dword ptr [CLOCK], 0
	je	clock
noclock:
	say	'M'

	mov	esi, 3
	mov	eax, offset on_break
	call	gate
	mov	esi, 14
	mov	eax, offset on_fault
	call	gate
	mov	esi, 32
	mov	eax, offset on_tick
	call	gate
	mov	esi, 34
	mov	eax, offset on_ipi
	call	gate
	mov	esi, 255
	mov	eax, offset on_spurious
	call	gate
	mov	esi, 128
	mov	eax, offset on_user
	call	gate
	or	byte ptr [IDT + 128 * 16 + 5], 0x60     # callable from ring 3
	lidt	[idtr]
	mov	dword ptr [TSS + 4], ISTACK
	mov	ax, 0x38
	ltr	ax

	int3
	cmp	dword ptr [breaks], 1
	jne	.
	say	'X'

	mov	dword ptr [HOLE + 0x1234], 0x600d
	cmp	dword ptr [faults], 1
	jne	.
	cmp	dword ptr [HOLE + 0x1234], 0x600d
	jne	.
	say	'F'

	mov	al, 0xff                # the old interrupt controllers stay out of it
	out	0x21, al
	out	0xa1, al
	mov	edi, APIC
	mov	dword ptr [rdi + 0xf0], 0x1ff   # enabled, spurious vector 255
	mov	dword ptr [rdi + 0x80], 0
	mov	dword ptr [rdi + 0x3e0], 0xb    # divide by 1
	mov	dword ptr [rdi + 0x320], 0x20020 # periodic, vector 32
	mov	dword ptr [rdi + 0x380], 1000000 # a tick per ms at QEMU's 1 GHz
	mov	ebp, TICKS
	call	sleep
	say	'T'

	mov	ecx, offset user
	mov	r11d, 0x202
	.byte	0x48, 0x0f, 0x07        # sysretq
user:	mov	esp, USTACK
	syscall
	mov	ecx, offset user_data
	add	dword ptr [rcx], 1
	int	0x80
back:	cmp	dword ptr [calls], 1
	jne	.
	cmp	dword ptr [user_data], 1
	jne	.
	say	'U'

	mov	esi, offset tramp
	mov	edi, TRAMP
	mov	ecx, offset tramp_end - tramp
	rep	movsb
	mov	edi, APIC
	mov	dword ptr [rdi + 0x310], 0
	mov	dword ptr [rdi + 0x300], 0xc4500        # INIT to all others
	mov	ebp, TICKS
	call	sleep
	mov	dword ptr [rdi + 0x300], 0xc4600 + (TRAMP >> 12)
	mov	ebp, 2
	call	sleep
	cmp	dword ptr [started], 0
	jne	up
	mov	dword ptr [rdi + 0x300], 0xc4600 + (TRAMP >> 12)
up:	mov	ebp, 1
	call	sleep
	cmp	dword ptr [started], 1
	jb	up
	mov	dword ptr [rdi + 0x300], 0xc4000 + 34   # interrupt all others
answer:	mov	ebp, 1
	call	sleep
	cmp	dword ptr [answers], 1
	jb	answer
	say	'S'
	mov	dx, 0x501
	mov	eax, 0x10
	out	dx, eax
	cli
	hlt
	jmp	.

# sleep halts for ebp timer ticks.
sleep:	mov	eax, [ticks]
	add	ebp, eax
1:	sti
	hlt
	cli
	cmp	[ticks], ebp
	jb	1b
	ret

# gate points interrupt esi at the handler eax.
gate:	shl	esi, 4
	mov	[rsi + IDT], ax
	mov	word ptr [rsi + IDT + 2], 0x10
	mov	word ptr [rsi + IDT + 4], 0x8e00
	shr	eax, 16
	mov	[rsi + IDT + 6], ax
	ret

on_break:
	inc	dword ptr [breaks]
	iretq
on_fault:
	inc	dword ptr [faults]
	mov	dword ptr [PD + (HOLE >> 21) * 8], HOLE + 0x87
	push	rax
	mov	rax, cr2
	invlpg	[rax]
	pop	rax
	add	rsp, 8                  # the error code
	iretq
on_tick:
	inc	dword ptr [ticks]
eoi:	push	rax
	mov	eax, APIC
	mov	dword ptr [rax + 0xb0], 0
	pop	rax
on_spurious:
	iretq
on_ipi:	inc	dword ptr [answers]
	jmp	eoi
on_user:                                # leave ring 3 for good
	mov	esp, STACK
	jmp	back
syscalled:
	inc	dword ptr [calls]
	.byte	0x48, 0x0f, 0x07        # sysretq

# The second CPU starts here, copied to TRAMP, in real mode with cs = TRAMP / 16.
	.code16
tramp:	cli
	mov	ax, cs
	mov	ds, ax
	lgdtd	[gdtr_copy - tramp]
	mov	eax, cr0
	or	eax, 1
	mov	cr0, eax
	.byte	0x66, 0xea              # far jump to 0x08:ap
	.long	ap
	.word	0x08
	.align	4
gdtr_copy:
	.word	gdt_end - gdt - 1
	.long	gdt
tramp_end:

	.code32
ap:	mov	ax, 0x18
	mov	ds, ax
	mov	es, ax
	mov	ss, ax
	mov	ebx, offset ap_long
	jmp	long_mode
	.code64
ap_long:
	mov	esp, APSTACK
	lidt	[idtr]
	mov	edi, APIC
	mov	dword ptr [rdi + 0xf0], 0x1ff
	mov	dword ptr [started], 1
1:	sti
	hlt
	jmp	1b

	.align	8
gdt:	.quad	0
	.quad	0x00cf9b000000ffff      # 08 kernel code, 32 bits
	.quad	0x00af9b000000ffff      # 10 kernel code, 64 bits
	.quad	0x00cf93000000ffff      # 18 kernel data
	.quad	0                       # 20 user code, 32 bits: unused
	.quad	0x00cff3000000ffff      # 28 user data
	.quad	0x00affb000000ffff      # 30 user code, 64 bits
	.quad	0x0000890000000067 + ((TSS & 0xffff) << 16) + ((TSS >> 16) << 32)
	.quad	0
gdt_end:
gdtr:	.word	gdt_end - gdt - 1
	.long	gdt, 0
idtr:	.word	0xfff
	.long	IDT, 0
	.align	4
breaks:	.long	0
faults:	.long	0
ticks:	.long	0
calls:	.long	0
started: .long	0
answers: .long	0
user_data: .long 0
end:
