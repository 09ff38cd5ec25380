/** The largest packet identifier of MQTT 3.1.1 (section 2.3.1); 0 is not one. */
const LAST_PACKET_ID = 65_535;

/**
 * Hands out packet identifiers from 1 upwards and none that is still in use: MQTT.js's own provider starts anywhere and,
 * once it has gone round, hands out identifiers whose acknowledgement is still awaited. Shaped as MQTT.js asks.
 */
export class MqttPacketIds {
  readonly #inUse: Set<number> = new Set();
  #last = 0;

  /** `null` when all are in use. */
  allocate(): number | null {
    for (let tried = 0; tried < LAST_PACKET_ID; tried += 1) {
      this.#last = (this.#last % LAST_PACKET_ID) + 1;
      if (this.register(this.#last)) return this.#last;
    }
    return null;
  }

  getLastAllocated(): number | null {
    return this.#last === 0 ? null : this.#last;
  }

  /** Whether `id` was free, and is taken now. */
  register(id: number): boolean {
    if (this.#inUse.has(id)) return false;
    this.#inUse.add(id);
    return true;
  }

  deallocate(id: number): void {
    this.#inUse.delete(id);
  }

  clear(): void {
    this.#inUse.clear();
  }
}
