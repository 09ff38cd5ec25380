import { encodeBase64, encodeUtf8, toHex } from '../core/bytes.js';

/** What the models are told of time and chance. Both are inputs, so that a test can fix them. */
export interface World {
  /** Milliseconds since 1970. */
  wallMs(): number;
  randomBytes(size: number): Uint8Array;
}

/** Lower-case GUID, as in tracking ids. */
export function makeGuid(world: World): string {
  const bytes = Uint8Array.from(world.randomBytes(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = toHex(bytes);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** One digit, 16 lower-case hex, a GUID: `5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550`. */
export function makeOperationId(world: World): string {
  return `5.${toHex(world.randomBytes(8))}.${makeGuid(world)}`;
}

/** Base64 of a quoted inner tag, e.g. of `"69003552-0000-0300-0000-630fda8a0000"` with its quotes. */
export function makeEtag(world: World): string {
  const seconds = Math.floor(world.wallMs() / 1000) >>> 0;
  const inner = `"${toHex(world.randomBytes(4))}-0000-0300-0000-${seconds.toString(16).padStart(8, '0')}0000"`;
  return encodeBase64(encodeUtf8(inner));
}

/** A key as the service generates them: 64 random bytes, Base64. */
export function makeSymmetricKey(world: World): string {
  return encodeBase64(world.randomBytes(64));
}

/** A hub key for a TPM, as the service makes them: 32 random bytes, Base64. */
export function makeTpmHubKey(world: World): string {
  return encodeBase64(world.randomBytes(32));
}

/** The hub's form: `<32 hex>-G:0-TimeStamp:08/17/2017 10:48:44`. */
export function makeHubTrackingId(world: World): string {
  const iso = new Date(world.wallMs()).toISOString();
  const date = `${iso.slice(5, 7)}/${iso.slice(8, 10)}/${iso.slice(0, 4)}`;
  return `${toHex(world.randomBytes(16))}-G:0-TimeStamp:${date} ${iso.slice(11, 19)}`;
}

/** `2024-05-01T10:00:00.1230000Z`: both services write seven fractional digits. */
export function formatTimestamp(wallMs: number): string {
  return new Date(wallMs).toISOString().replace('Z', '0000Z');
}
