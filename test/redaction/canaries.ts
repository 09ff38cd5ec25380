import { createHash, createHmac } from 'node:crypto';

/**
 * Secrets made up for the tests, and the search for any trace of them. A trace is twelve characters in a row of a secret
 * in any of the spellings below, in either direction and letter case, also where line breaks, commas or quotes of a
 * printer stand in between; thirty of a list of bytes in decimal.
 */

/** The shortest piece that counts. Twelve random characters do not turn up by chance. */
const WINDOW = 12;
/** Twelve digits of a list of bytes are four letters, and those of a hexadecimal text turn up by chance. */
const DIGITS_WINDOW = 30;

/** Bytes that look random and are the same in every run. */
export function canaryBytes(label: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(`canary ${label}`).digest();
}

/** A device key as the service makes it, in Base64; 64 bytes end in `==`, 48 have no padding. */
export function canaryKey(label: string, length = 64): string {
  return canaryBytes(label, length).toString('base64');
}

/** The key that a device of a group enrollment gets, made without the code under test. */
export function derivedKey(groupKey: string, registrationId: string): string {
  return hmac(groupKey, registrationId).toString('base64');
}

export interface TokenLife {
  readonly wallMs: number;
  readonly lifeSeconds?: number;
}

/** The token that this key gives a device for DPS, made without the code under test. */
export function dpsToken(key: string, idScope: string, registrationId: string, life: TokenLife): string {
  return token(key, encodeURIComponent(`${idScope}/registrations/${registrationId}`), life, '&skn=registration');
}

/** The same for a hub. */
export function hubToken(key: string, hostName: string, deviceId: string, life: TokenLife): string {
  return token(key, encodeURIComponent(`${hostName}/devices/${deviceId}`), life, '');
}

function token(key: string, resource: string, { wallMs, lifeSeconds = 3600 }: TokenLife, tail: string): string {
  const expiry = Math.floor(wallMs / 1000) + lifeSeconds;
  const signature = hmac(key, `${resource}\n${expiry}`).toString('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}${tail}`;
}

function hmac(key: string, text: string): Buffer {
  return createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest();
}

/** What is secret in a token: the signature's bytes. The rest says for whom and until when. */
export function signatureIn(sasToken: string): Buffer {
  const [, signature = ''] = /[?& ]sig=([^&]+)/.exec(sasToken) ?? [];
  if (signature === '') throw new Error('This is no SAS token.');
  return Buffer.from(decodeURIComponent(signature), 'base64');
}

/** One place where a secret shows. */
export interface Leak {
  readonly channel: string;
  readonly secret: string;
  /** Where it was found, with some of what stands around it. */
  readonly excerpt: string;
}

/** The secrets that must not show. */
export class Canaries {
  readonly #names: Map<string, string>;

  /** With everything that `others` looks for. */
  constructor(others?: Canaries) {
    this.#names = new Map(others === undefined ? [] : others.#names);
  }

  /** Bytes: the key itself, whatever it is spelled in. */
  addBytes(name: string, bytes: Uint8Array): this {
    return this.#add(name, spellingsOfBytes(Buffer.from(bytes)));
  }

  /** A secret that comes as Base64. */
  addKey(name: string, base64: string): this {
    return this.addBytes(name, Buffer.from(base64, 'base64'));
  }

  addToken(name: string, sasToken: string): this {
    return this.addBytes(name, signatureIn(sasToken));
  }

  /** A secret that is text: a passphrase. */
  addText(name: string, text: string): this {
    return this.#add(name, [...spellingsOfText(text), ...spellingsOfBytes(Buffer.from(text))]);
  }

  /**
   * The lines of a PEM private key. `known` is text that everybody has: what the key's structure has in common with any
   * other key, and the certificate with its public half.
   */
  addPem(name: string, pem: string, known: readonly string[]): this {
    const der = pemBytes(pem);
    const common = new Set(known.flatMap((text) => windowsOf(spellingsOfBytes(pemBytes(text)))));
    return this.#addWindows(
      name,
      windowsOf(spellingsOfBytes(der)).filter((window) => !common.has(window)),
    );
  }

  /** Every trace of any secret in a text that came out at `channel`. */
  leaksIn(channel: string, text: string): Leak[] {
    const lower = text.toLowerCase();
    const found = new Map<string, Leak>();
    for (const form of [lower, squeeze(lower)]) {
      for (let start = 0; start + WINDOW <= form.length; start += 1) {
        const secret =
          this.#names.get(form.slice(start, start + WINDOW)) ??
          this.#names.get(form.slice(start, start + DIGITS_WINDOW));
        if (secret === undefined || found.has(secret)) continue;
        found.set(secret, { channel, secret, excerpt: form.slice(Math.max(0, start - 80), start + 60) });
      }
    }
    return [...found.values()];
  }

  #add(name: string, spellings: readonly string[]): this {
    return this.#addWindows(name, windowsOf(spellings));
  }

  #addWindows(name: string, windows: readonly string[]): this {
    if (windows.length === 0) throw new Error(`The canary ${name} is too short to be found.`);
    for (const window of windows) this.#names.set(window, name);
    return this;
  }
}

function windowsOf(spellings: readonly string[]): string[] {
  const windows: string[] = [];
  for (const spelling of spellings) {
    const lower = spelling.toLowerCase();
    for (const text of new Set([lower, squeeze(lower)])) {
      const backwards = [...text].reverse().join('');
      const length = /^[\d,]+$/.test(text) ? DIGITS_WINDOW : WINDOW;
      for (let start = 0; start + length <= text.length; start += 1) {
        windows.push(text.slice(start, start + length), backwards.slice(start, start + length));
      }
    }
  }
  return windows;
}

/** What printers put between the parts of a long text, of a Buffer or of an array. */
function squeeze(text: string): string {
  return text.replace(/['"`]\s*\+\s*['"`]/g, '').replace(/[\s,:'"`\\]+/g, '');
}

function spellingsOfBytes(bytes: Buffer): string[] {
  const base64 = bytes.toString('base64');
  const hex = bytes.toString('hex');
  return [
    ...[0, 1, 2].map((shift) => base64At(bytes, shift)),
    bytes.toString('base64url'),
    hex,
    bytes.join(','),
    ...spellingsOfText(base64),
    ...spellingsOfText(hex),
  ];
}

function spellingsOfText(text: string): string[] {
  const percent = encodeURIComponent(text);
  const bytes = Buffer.from(text);
  return [
    text,
    percent,
    encodeURIComponent(percent),
    JSON.stringify(text).slice(1, -1),
    text.replace(/[^A-Za-z0-9 ]/g, (sign) => `&#x${sign.charCodeAt(0).toString(16)};`),
    ...[0, 1, 2].map((shift) => base64At(bytes, shift)),
    bytes.toString('hex'),
    bytes.join(','),
  ];
}

/** How bytes look within the Base64 of something longer, `shift` bytes into it; without the letters they share. */
function base64At(bytes: Buffer, shift: number): string {
  const base64 = Buffer.concat([Buffer.alloc(shift), bytes])
    .toString('base64')
    .replace(/=+$/, '');
  const shared = shift === 0 ? 0 : shift + 1;
  return base64.slice(shared, Math.floor(((bytes.length + shift) * 8) / 6));
}

function pemBytes(pem: string): Buffer {
  const [, body = pem] = /-----BEGIN [^-]+-----\s*([\s\S]*?)-----END/.exec(pem) ?? [];
  return Buffer.from(body.replace(/^.*:.*$/gm, ''), 'base64');
}
