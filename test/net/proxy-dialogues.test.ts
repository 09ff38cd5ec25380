import { describe, expect, it } from 'vitest';
import { httpConnect, MAX_CONNECT_REPLY_BYTES } from '../../src/net/http-connect.js';
import type { ProxyAddress } from '../../src/net/proxy-choice.js';
import type { ProxyDialogue } from '../../src/net/proxy-dialogue.js';
import { socks5 } from '../../src/net/socks5.js';
import { bytes } from '../fakes/mqtt-bytes.js';

const HUB = { host: 'hub.example', port: 8883 };
const HTTP: ProxyAddress = { kind: 'http', host: 'proxy.example', port: 3128 };
const SOCKS: ProxyAddress = { kind: 'socks5', host: 'proxy.example', port: 1080 };
const KNOWN = { username: 'u', password: 'sëcret' };

/** Plays the proxy's bytes, one at a time; says what the device sent until the way was open. */
function converse(dialogue: ProxyDialogue, spoken: Uint8Array): string[] {
  const said = [Buffer.from(dialogue.opening).toString('hex')];
  let unread = new Uint8Array(0);
  for (const [index, byte] of spoken.entries()) {
    unread = new Uint8Array([...unread, byte]);
    const step = dialogue.take(unread);
    if (step.kind === 'wait') continue;
    unread = unread.subarray(step.used);
    if (step.kind === 'say') said.push(Buffer.from(step.bytes).toString('hex'));
    else return [...said, `open after ${index + 1} of ${spoken.length}`];
  }
  return [...said, 'waits'];
}

const hex = (spelling: string): string => bytes(spelling).toString('hex');
const text = (plain: string): Uint8Array => Buffer.from(plain, 'latin1');

function failureOf(dialogue: ProxyDialogue, spoken: Uint8Array): Error {
  try {
    return new Error(converse(dialogue, spoken).join());
  } catch (error) {
    return error as Error;
  }
}

describe('HTTP CONNECT', () => {
  it.each([
    [HUB, 'hub.example:8883'],
    [{ host: 'hub.example.', port: 443 }, 'hub.example:443'],
    [{ host: '2001:db8::1', port: 443 }, '[2001:db8::1]:443'],
  ])('asks for %j', (target, authority) => {
    const request = Buffer.from(httpConnect(HTTP, target).opening).toString();
    expect(request).toBe(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  });

  it('brings user name and password in UTF-8', () => {
    const request = Buffer.from(httpConnect({ ...HTTP, ...KNOWN }, HUB).opening).toString();
    // printf 'u:sëcret' | base64
    expect(request).toContain('\r\nProxy-Authorization: Basic dTpzw6tjcmV0\r\n\r\n');
  });

  it.each([
    'HTTP/1.1 200 Connection established\r\n\r\n',
    'HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n',
    'HTTP/1.1 204 \r\n\r\n',
    'HTTP/1.1 200\r\nA: b\r\n\r\n',
    'HTTP/1.1 200 OK\n\n',
  ])('is done with the head of %j', (answer) => {
    const [, end] = converse(httpConnect(HTTP, HUB), text(answer));
    expect(end).toBe(`open after ${answer.length} of ${answer.length}`);
    expect(converse(httpConnect(HTTP, HUB), text(answer.slice(0, -1))).at(-1)).toBe('waits');
  });

  it('tells the head from what follows it', () => {
    const dialogue = httpConnect(HTTP, HUB);
    expect(dialogue.take(text('HTTP/1.1 200 OK\r\n\r\nmore'))).toEqual({ kind: 'open', used: 19 });
  });

  it.each<[string, string, boolean, RegExp]>([
    [
      '407 Proxy Authentication Required',
      'ERR_DPS_PROXY_AUTH',
      false,
      /Give user name and password along with the proxy/,
    ],
    [
      '403 Forbidden',
      'ERR_DPS_PROXY_REFUSED',
      false,
      /HTTP status 403\). It does not allow this. Have host and port 8883 allowed there, or/,
    ],
    ['405 No', 'ERR_DPS_PROXY_REFUSED', false, /takes CONNECT/],
    ['404 No', 'ERR_DPS_PROXY_REFUSED', false, /log of the proxy/],
    ['302 Found', 'ERR_DPS_PROXY_REFUSED', false, /HTTP status 302/],
    ['100 Continue', 'ERR_DPS_PROXY_REFUSED', false, /HTTP status 100/],
    ['429 Slow', 'ERR_DPS_PROXY_REFUSED', true, /HTTP status 429/],
    ['503 Down', 'ERR_DPS_PROXY_REFUSED', true, /did not reach the target/],
  ])('says what %s means', (status, code, retryable, words) => {
    const error = failureOf(httpConnect(HTTP, HUB), text(`HTTP/1.1 ${status}\r\nA: b\r\n\r\n<html>`));
    expect(error).toMatchObject({
      name: 'TransportError',
      code,
      retryable,
      phase: 'proxy',
      peer: 'proxy.example:3128',
    });
    expect(error.message).toMatch(/^The proxy proxy\.example:3128 .*hub\.example:8883/);
    expect(error.message).toMatch(words);
  });

  it('sends nobody from port 443 to port 443', () => {
    const target = { ...HUB, port: 443 };
    const refusals = [
      failureOf(httpConnect(HTTP, target), text('HTTP/1.1 403 No\r\n\r\n')),
      failureOf(socks5(SOCKS, target), bytes('05 00 05 02')),
    ];
    for (const { message } of refusals) expect(message).toMatch(/Have host and port 443 allowed there\.$/);
  });

  it.each([401, 407])('asks to check the credentials where there are some, and shows none (%d)', (status) => {
    const error = failureOf(httpConnect({ ...HTTP, ...KNOWN }, HUB), text(`HTTP/1.1 ${status} No\r\n\r\n`));
    expect(error).toMatchObject({ code: 'ERR_DPS_PROXY_AUTH' });
    expect(error.message).toContain('Check the user name and password');
    expect(error.message).not.toMatch(/sëcret|dTpzw6tjcmV0/);
  });

  it.each([
    'SSH-2.0-OpenSSH\r\n',
    '\x05\xff',
    'HTTP/2 200\r\n\r\n',
    'HTTP/1.1 2000 x\r\n',
    'HTTP/1.1 abc\r\n',
    `HTTP/1.1 ${' '.repeat(99)}`,
  ])('is not what answers %j', (answer) => {
    const error = failureOf(httpConnect(HTTP, HUB), text(answer));
    expect(error).toMatchObject({ code: 'ERR_DPS_PROXY_PROTOCOL', retryable: false });
  });

  it('ends at a header without end', () => {
    const dialogue = httpConnect(HTTP, HUB);
    const head = text(`HTTP/1.1 200 OK\r\nA: ${'x'.repeat(MAX_CONNECT_REPLY_BYTES)}`);
    expect(dialogue.take(head.subarray(0, MAX_CONNECT_REPLY_BYTES - 1))).toEqual({ kind: 'wait' });
    expect(() => dialogue.take(head)).toThrow(expect.objectContaining({ code: 'ERR_DPS_PROXY_PROTOCOL' }));
  });
});

describe('SOCKS5', () => {
  const NAME = "05 01 00 03 0b 'hub.example' 22b3";
  const IPV4 = bytes('05 00 00 01 7f000001 0050');

  it('goes without authentication by name', () => {
    const said = converse(socks5(SOCKS, HUB), Buffer.concat([bytes('05 00'), IPV4]));
    expect(said).toEqual([hex('05 01 00'), hex(NAME), 'open after 12 of 12']);
  });

  it('brings user name and password in UTF-8 when they are asked for', () => {
    const said = converse(socks5({ ...SOCKS, ...KNOWN }, HUB), Buffer.concat([bytes('05 02 01 00'), IPV4]));
    expect(said).toEqual([hex('05 02 00 02'), hex("01 01 'u' 07 's' c3ab 'cret'"), hex(NAME), 'open after 14 of 14']);
    const unasked = converse(socks5({ ...SOCKS, ...KNOWN }, HUB), Buffer.concat([bytes('05 00'), IPV4]));
    expect(unasked).toEqual([hex('05 02 00 02'), hex(NAME), 'open after 12 of 12']);
  });

  it.each([
    ['10.1.2.3', '01 0a010203'],
    ['2001:db8::1:0:ff', '04 20010db8 00000000 00000001 000000ff'],
    ['::', '04 00000000 00000000 00000000 00000000'],
    ['1:2:3:4:5:6:7:8', '04 00010002 00030004 00050006 00070008'],
    ['::ffff:1.2.3.4', '04 00000000 00000000 0000ffff 01020304'],
    ['fe80::1%eth0', '04 fe800000 00000000 00000000 00000001'],
    ['hub.example.', "03 0b 'hub.example'"],
  ])('goes to %s', (host, address) => {
    const [, request] = converse(socks5(SOCKS, { host, port: 443 }), bytes('05 00'));
    expect(request).toBe(hex(`05 01 00 ${address} 01bb`));
  });

  it.each([
    '05 00 00 03 00 0050',
    "05 00 00 03 04 'name' 0050",
    '05 00 00 04 00000000 00000000 00000000 00000000 0050',
  ])('is done with the whole of %s', (reply) => {
    const spoken = Buffer.concat([bytes('05 00'), bytes(reply)]);
    expect(converse(socks5(SOCKS, HUB), spoken).at(-1)).toBe(`open after ${spoken.length} of ${spoken.length}`);
    expect(converse(socks5(SOCKS, HUB), spoken.subarray(0, -1)).at(-1)).toBe('waits');
  });

  it.each<[string, string, boolean, RegExp]>([
    ['05 ff', 'ERR_DPS_PROXY_AUTH', false, /no way to authenticate.*Check the user name/],
    ['05 02 01 01', 'ERR_DPS_PROXY_AUTH', false, /status 1.*Check the user name/],
    ['05 00 05 01', 'ERR_DPS_PROXY_REFUSED', true, /SOCKS reply 1, general failure/],
    [
      '05 00 05 02',
      'ERR_DPS_PROXY_REFUSED',
      false,
      /not allowed by its rules.*Have host and port 8883 allowed there, or use a transport over port 443\.$/,
    ],
    ['05 00 05 05', 'ERR_DPS_PROXY_REFUSED', true, /connection refused/],
    ['05 00 05 07', 'ERR_DPS_PROXY_REFUSED', false, /command not supported/],
    ['05 00 05 63', 'ERR_DPS_PROXY_REFUSED', true, /SOCKS reply 99, unknown/],
    ["'HT'", 'ERR_DPS_PROXY_PROTOCOL', false, /does not answer as a SOCKS5 proxy does \(no SOCKS version 5\)/],
    ['05 01', 'ERR_DPS_PROXY_PROTOCOL', false, /method 1, which was not offered/],
    ['05 00 04', 'ERR_DPS_PROXY_PROTOCOL', false, /no SOCKS version 5/],
    ['05 00 05 00 00 02 00', 'ERR_DPS_PROXY_PROTOCOL', false, /address type 2/],
  ])('says what %s means', (spoken, code, retryable, words) => {
    const error = failureOf(socks5({ ...SOCKS, ...KNOWN }, HUB), bytes(spoken));
    expect(error).toMatchObject({
      name: 'TransportError',
      code,
      retryable,
      phase: 'proxy',
      peer: 'proxy.example:1080',
    });
    expect(error.message).toMatch(words);
    expect(error.message).not.toContain('sëcret');
  });

  it('is not offered a method that it could not use, and may not choose it', () => {
    expect(failureOf(socks5(SOCKS, HUB), bytes('05 02'))).toMatchObject({ code: 'ERR_DPS_PROXY_PROTOCOL' });
    expect(failureOf(socks5(SOCKS, HUB), bytes('05 ff')).message).toContain('Give user name and password');
  });
});
