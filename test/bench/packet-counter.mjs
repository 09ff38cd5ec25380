/** Counts MQTT packets in a stream of bytes (MQTT 3.1.1, section 2.2: one byte, then the length in seven bits a byte). */
export class PacketCounter {
  #onPacket;
  #isLength = false;
  #length = 0;
  #shift = 0;
  #skip = 0;

  constructor(onPacket) {
    this.#onPacket = onPacket;
  }

  add(chunk) {
    for (const byte of chunk) this.#addByte(byte);
  }

  #addByte(byte) {
    if (this.#skip > 0) {
      this.#skip -= 1;
      if (this.#skip === 0) this.#onPacket();
    } else if (!this.#isLength) {
      this.#isLength = true;
      this.#length = 0;
      this.#shift = 0;
    } else {
      this.#length += (byte & 0x7f) << this.#shift;
      this.#shift += 7;
      if (byte >= 0x80) return;
      this.#isLength = false;
      this.#skip = this.#length;
      if (this.#skip === 0) this.#onPacket();
    }
  }
}
