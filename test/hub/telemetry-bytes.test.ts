import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { TelemetryMessage } from '../../src/core/hub.js';
import { LastingSession } from '../../src/hub/lasting-session.js';
import { encodeMessage } from '../../src/hub/outgoing-bodies.js';
import { FakeHubSession } from '../fakes/fake-hub-session.js';

function shared(text: string): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(text.length);
  new Uint8Array(buffer).set(Buffer.from(text));
  return buffer;
}

function encode(body: unknown): { readonly text: string; readonly contentType: string | undefined } {
  const { body: bytes, contentType } = encodeMessage({ body } as TelemetryMessage);
  return { text: Buffer.from(bytes).toString(), contentType };
}

describe('a body that is bytes', () => {
  it.each<[string, unknown]>([
    ['Uint8Array', Uint8Array.from(Buffer.from('abc'))],
    ['Buffer', Buffer.from('abc')],
    ['ArrayBuffer', Uint8Array.from(Buffer.from('abc')).buffer],
    ['SharedArrayBuffer', shared('abc')],
    ['view on a SharedArrayBuffer', new Uint8Array(shared('xabcx'), 1, 3)],
    ['DataView', new DataView(shared('xabcx'), 1, 3)],
    ['Uint8ClampedArray', new Uint8ClampedArray(shared('xabcx'), 1, 3)],
    ['Int8Array', Int8Array.from(Buffer.from('abc'))],
    ['Uint8Array of another realm', runInNewContext('Uint8Array.of(97, 98, 99)')],
    ['ArrayBuffer of another realm', runInNewContext('Uint8Array.of(97, 98, 99).buffer')],
  ])('of a %s goes out as these bytes, not as JSON', (_, body) => {
    expect(encode(body)).toEqual({ text: 'abc', contentType: undefined });
  });

  it.each([
    ['Float32Array', Float32Array.of(1.5)],
    ['Int16Array', Int16Array.of(1)],
    ['BigUint64Array', new BigUint64Array(new SharedArrayBuffer(8))],
  ])('of a %s may mean its numbers, and is refused with both ways out', (name, body) => {
    expect(() => encode(body)).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_CONFIG_OPTION',
        option: 'body',
        message: expect.stringMatching(
          new RegExp(`it is a ${name}, .*Array\\.from\\(it\\) for JSON, or new Uint8Array\\(it\\.buffer`),
        ),
      }),
    );
  });

  it('is bounded as JSON is', () => {
    expect(() => encode(new SharedArrayBuffer(256 * 1024 + 1))).toThrow(/262145 bytes/);
  });
});

describe('bytes that wait for the hub', () => {
  it.each<[string, (text: string) => Uint8Array, (bytes: Uint8Array) => unknown]>([
    ['Buffer', (text) => Buffer.from(text), (bytes) => bytes],
    ['Uint8Array', (text) => Uint8Array.from(Buffer.from(text)), (bytes) => bytes],
    ['SharedArrayBuffer', (text) => new Uint8Array(shared(text)), (bytes) => bytes.buffer],
  ])('of a %s are sent as they were when they were given', async (_, make, give) => {
    const handle = new LastingSession({ onTwin: () => {}, onClose: async () => {} });
    const bytes = make('abc');
    const sending = handle.sendTelemetry({ body: give(bytes) as Uint8Array });
    bytes.fill(0x78);
    const session = new FakeHubSession();
    handle.attach(session);
    await sending;
    expect(session.taken).toEqual(['telemetry abc']);
  });
});
