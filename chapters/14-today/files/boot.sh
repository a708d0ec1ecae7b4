# boot: a disk of one sector that says a sentence on the serial port, then halts.
#
#	xor ax,ax; mov ds,ax; mov si,text
#	next: lodsb; test al,al; jz end; mov dx,0x3f8; out dx,al; jmp next
#	end:  cli; hlt; jmp end
boot() {
	printf '\x31\xc0\x8e\xd8\xbe\x17\x7c\xac\x84\xc0\x74\x06\xba\xf8\x03\xee\xeb\xf5\xfa\xf4\xeb\xfc\x90%s\r\n\0' "$1"
}
disk() {
	boot "$1" >"$2"
	truncate -s 510 "$2"
	printf '\x55\xaa' >>"$2" # what the firmware looks for
}
