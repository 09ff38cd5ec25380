/** The letters `AMQP` that a protocol header begins with: as a frame's size they would be more than a gigabyte. */
const HEADER_START = 0x414d5150;
const HEADER_BYTES = 8;

/** Cuts a stream into protocol headers and whole frames (AMQP 1.0, part 2, sections 2.2 and 2.3). */
export class AmqpFrameCutter {
  readonly #maxBytes: number;
  #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The units that `chunk`, the next bytes of the stream, completes; and what is wrong with what follows them. */
  cut(chunk: Uint8Array): { readonly units: readonly Buffer[]; readonly problem?: string } {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#length < HEADER_BYTES) return { units: [] };
    let rest = Buffer.concat(this.#chunks);
    const units: Buffer[] = [];
    for (let size = sizeOf(rest); size !== undefined; size = sizeOf(rest)) {
      if (size < HEADER_BYTES || size > this.#maxBytes) return { units, problem: `a frame of ${size} bytes` };
      if (size > rest.length) break;
      units.push(rest.subarray(0, size));
      rest = rest.subarray(size);
    }
    this.#chunks = [rest];
    this.#length = rest.length;
    return { units };
  }
}

function sizeOf(bytes: Buffer): number | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const size = bytes.readUInt32BE(0);
  return size === HEADER_START ? HEADER_BYTES : size;
}
