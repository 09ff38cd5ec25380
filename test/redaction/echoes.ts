import type { JsonObject } from '../../src/core/twin.js';
import type { FaultAction, FaultPoint } from '../../src/emulator/index.js';
import { TPM_BLOB } from './bench.js';
import { signatureIn } from './canaries.js';

/** A service, proxy or broker that says the device's own token back, or a key blob, wherever it can say anything. */
export interface Echo {
  readonly name: string;
  readonly at: FaultPoint;
  /** Left out: both. */
  readonly over?: 'mqtt' | 'https';
  readonly action: (said: string) => FaultAction;
}

/** What a careless service may make of a token. */
export const SPELLINGS: readonly (readonly [name: string, spell: (token: string) => string])[] = [
  ['the whole token', (token) => `Bad token: ${token}`],
  ['its signature', (token) => `wrong signature ${signatureOf(token)}`],
  ['its signature as sent', (token) => `sig ${encodeURIComponent(signatureOf(token))} is wrong`],
  ['its signature in lower-case percent encoding', (token) => inLowerPercent(signatureOf(token))],
  ['its signature in HTML', (token) => inHtml(signatureOf(token))],
  ['its signature escaped twice', (token) => JSON.stringify(signatureOf(token).replaceAll('/', '\\/'))],
  ['its signature in hex', (token) => signatureIn(token).toString('hex').toUpperCase()],
  ['the token in Base64', (token) => `Authorization: ${Buffer.from(token).toString('base64')}`],
  ['the signature, cut', (token) => `got ${signatureOf(token).slice(0, 30)}...`],
  ['a key blob', () => `cannot activate ${TPM_BLOB}`],
  ['a key blob in lines', () => TPM_BLOB.replace(/.{32}/g, '$&\r\n')],
];

/** The three that differ most, for places that are read by the same code as others. */
export const FEW_SPELLINGS: typeof SPELLINGS = SPELLINGS.filter((_, index) => [0, 2, 8].includes(index));

function signatureOf(token: string): string {
  return signatureIn(token).toString('base64');
}

function inLowerPercent(text: string): string {
  return encodeURIComponent(text).replace(/%../g, (code) => code.toLowerCase());
}

function inHtml(text: string): string {
  return text.replace(/[^A-Za-z0-9]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** An error body with the words in every member that is text. */
export function errorBody(said: string): JsonObject {
  return { errorCode: 401002, message: said, trackingId: said, timestampUtc: said, detail: said };
}

/** Bodies that are no error body: pages, texts, JSON of another kind, JSON that breaks off. */
export function foreignBodies(at: FaultPoint, status: number): Echo[] {
  const bodies: readonly (readonly [name: string, body: (said: string) => object])[] = [
    ['a page', (said) => ({ text: `<html><body><h1>Denied</h1>${said}</body></html>` })],
    ['plain text', (said) => ({ text: said })],
    ['JSON that breaks off', (said) => ({ text: `{"message":${JSON.stringify(said)}` })],
    ['a JSON text', (said) => ({ body: said })],
    ['a JSON list', (said) => ({ body: [said] })],
    ['text in no encoding', (said) => ({ base64: Buffer.from(`ü${said}`, 'latin1').toString('base64') })],
  ];
  return bodies.map(([name, body]) => ({
    name: `${at}: ${name}, status ${status}`,
    at,
    action: (said) => ({ kind: 'respond', status, ...body(said) }),
  }));
}

/** A reply on a topic with the words in the place of `%`. */
export function strangeTopic(at: FaultPoint, pattern: string, status: number): Echo {
  return {
    name: `${at}: topic ${pattern}`,
    at,
    over: 'mqtt',
    action: (said) => ({ kind: 'respond', status, topic: pattern.replace('%', () => inTopic(said)) }),
  };
}

/** Bytes instead of a packet. */
export function raw(text: string): FaultAction {
  return { kind: 'raw', base64: Buffer.from(text).toString('base64') };
}

/** The slash is a CONNACK with flags that it must not have: nobody waits for the rest of the packet. */
export function noMqtt(said: string): FaultAction {
  return raw(`/${said}`);
}

/** Without the wildcards that MQTT reserves. */
export function inTopic(said: string): string {
  return said.replaceAll(/[#+]/g, encodeURIComponent);
}

/** What may stand in a header. */
export function inHeader(said: string): string {
  return said.replace(/[^ -~]/g, ' ');
}
