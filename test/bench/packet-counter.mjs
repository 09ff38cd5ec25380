const CONNECT = 0x10;
const AMQP = Buffer.from('AMQP');

/** Counts MQTT packets or AMQP frames, whichever `firstChunk` of the client begins; of HTTP nothing. */
export function counterFor(firstChunk, onPacket) {
  if (firstChunk[0] === CONNECT) return new MqttPacketCounter(onPacket);
  if (firstChunk.subarray(0, 4).equals(AMQP)) return new AmqpFrameCounter(onPacket);
  return { add: () => {} };
}

/** MQTT 3.1.1, section 2.2: one byte, then the length in seven bits a byte. */
class MqttPacketCounter {
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

/** AMQP 1.0, sections 2.2 and 2.3: a protocol header of eight bytes, or a frame that begins with its size in four. */
class AmqpFrameCounter {
  #onPacket;
  #bytes = Buffer.alloc(0);

  constructor(onPacket) {
    this.#onPacket = onPacket;
  }

  add(chunk) {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= 4) {
      const isHeader = this.#bytes.subarray(0, 4).equals(AMQP);
      const size = isHeader ? 8 : this.#bytes.readUInt32BE(0);
      if (this.#bytes.length < size) return;
      this.#bytes = this.#bytes.subarray(size);
      this.#onPacket();
    }
  }
}
