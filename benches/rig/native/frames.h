/* What the generator's two halves share: the shape of a frame.
 *
 * An outer Ethernet, IPv4, UDP and VXLAN header (50 bytes), then the inner frame: Ethernet, IPv4, UDP (42 bytes), a
 * number that is different in each frame (8 bytes, little-endian, counts up from 0), then filler. */
#ifndef FRAMES_H
#define FRAMES_H

#define OUTER 50
#define INNER_HEADERS 42
#define TEMPLATE (OUTER + INNER_HEADERS)
#define NUMBER TEMPLATE
/* Bytes that are written anew in each frame. */
#define WRITTEN (NUMBER + 8)
#define LENGTHS 16

/* Processors that the queues' map has room for, and entries of the table that spreads outer ports over them: a power
 * of two. */
#define PROCESSORS 256
#define INDIRECTION 128

#define OUTER_SOURCE_PORT 34
#define VNI_AT 46
#define INNER_CHECKSUM (OUTER + 14 + 10)
#define INNER_SOURCE_LOW (OUTER + 14 + 14)

#endif
