import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { x509FileHsm } from '../../hsm/x509-file.js';
import type { X509Hsm } from '../../src/core/attestation.js';
import { expectNoSecrets } from '../contracts/hsm.js';
import { encrypt, keySecrets, PASSPHRASE, toPem } from './pem-texts.js';
import { chainOf, device, failureOf, folder, loadFiles, loadTexts, makeFile, middle, other } from './x509-bench.js';

const { signal } = new AbortController();

describe('PEM of every make', () => {
  const expectLoaded = async (certificatePem: string, keyPem: string): Promise<void> => {
    const hsm = await loadFiles(certificatePem, keyPem);
    expect(await hsm.tlsCredential(0, signal)).toEqual({
      certificateChainPem: device.chainPem,
      privateKeyPem: device.privateKeyPem,
    });
  };

  it.each([
    ['CRLF line ends', (pem: string) => pem.replaceAll('\n', '\r\n')],
    ['CR line ends', (pem: string) => pem.replaceAll('\n', '\r')],
    ['no line end at the end', (pem: string) => pem.trimEnd()],
    ['a byte order mark', (pem: string) => `\uFEFF${pem}`],
    ['indented lines', (pem: string) => pem.replaceAll(/^/gm, '    ')],
    ['trailing blanks', (pem: string) => pem.replaceAll('\n', ' \t\n')],
    ['no line breaks inside', (pem: string) => pem.replaceAll(/(?<=[A-Za-z0-9+/=])\n(?=[A-Za-z0-9+/=])/g, '')],
    [
      'text around the blocks',
      (pem: string) =>
        `Bag Attributes\n  friendlyName: é\n${pem.replaceAll('-----BEGIN', 'subject=CN: x\n-----BEGIN')}\nend`,
    ],
  ])('is read with %s', async (_, change) => {
    await expectLoaded(change(device.chainPem), change(device.privateKeyPem));
  });

  it('is read with text in Latin-1 around the blocks', async () => {
    const certificate = await makeFile(
      Buffer.concat([Buffer.from([0xe9, 0xff, 0x0a]), Buffer.from(device.chainPem)]),
      0o644,
    );
    const hsm = await x509FileHsm({ certificate, key: await makeFile(device.privateKeyPem) });
    expect(await chainOf(hsm)).toBe(device.chainPem);
  });

  it('is read from one file that holds both, and from a key after its curve parameters', async () => {
    const both = await makeFile(device.chainPem + device.privateKeyPem);
    expect(await chainOf(await x509FileHsm({ certificate: both, key: both }))).toBe(device.chainPem);
    const sec1 = createPrivateKey(device.privateKeyPem).export({ type: 'sec1', format: 'pem' }).toString();
    const parameters = '-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n';
    await expectLoaded(device.chainPem, parameters + sec1);
  });
});

describe('malformed certificates', () => {
  const cut = (pem: string): string => pem.slice(0, pem.length / 2);
  const damage = (pem: string): string => pem.replace(/\n.{20}/, '\n********************');
  const cases: readonly (readonly [string, () => string | Uint8Array, RegExp])[] = [
    ['no PEM', () => 'hello', /holds no certificate in PEM/],
    [
      'a key',
      () => device.privateKeyPem,
      /holds a private key and no certificate\. Were certificate and key swapped\?/,
    ],
    ['a signing request', () => toPem('CERTIFICATE REQUEST', new Uint8Array([0x30, 0])), /holds a signing request/],
    ['something else', () => toPem('X509 CRL', new Uint8Array([0x30, 0])), /holds X509 CRL and no certificate/],
    ['DER', () => new X509Certificate(device.certificatePem).raw, /is binary .* openssl x509 -inform DER -in /],
    ['a cut block', () => cut(device.certificatePem), /^Certificate 1 in .* is cut: there is no line END CERTIFICATE/],
    ['a cut second block', () => device.certificatePem + cut(middle.certificatePem), /^Certificate 2 in .* is cut/],
    [
      'a block cut before another',
      () => cut(device.certificatePem) + middle.certificatePem,
      /^Certificate 1 in .* is cut/,
    ],
    ['missing lines', () => device.certificatePem.replace(/\n[^\n]{64}\n/, '\n'), /is cut or damaged inside/],
    ['strange characters', () => damage(device.certificatePem), /is damaged: between BEGIN and END is no Base64/],
    ['something else inside', () => toPem('CERTIFICATE', new Uint8Array([0x30, 0])), /is damaged: it is not an X\.509/],
    ['an empty block', () => toPem('CERTIFICATE', new Uint8Array()), /is cut or damaged inside/],
  ];

  it.each(cases)('says so of %s', async (_, content, message) => {
    const path = await makeFile(content(), 0o644);
    const key = await makeFile(device.privateKeyPem);
    const error = await failureOf(x509FileHsm({ certificate: path, key }));
    expect(error).toMatchObject({
      name: 'HsmError',
      code: 'ERR_DPS_HSM_CERTIFICATE_INVALID',
      operation: 'load certificate',
    });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    expectNoSecrets(error, keySecrets(device.privateKeyPem));
  });

  it('names the file that is absent, and the one of the chain', async () => {
    const key = await makeFile(device.privateKeyPem);
    const certificate = join(folder, 'absent');
    const error = await failureOf(x509FileHsm({ certificate, key }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_FILE_UNREADABLE' });
    expect(error.message).toContain(`The certificate file ${certificate} does not exist`);
    const chain = await makeFile('hello');
    const chainError = await failureOf(loadFiles(device.certificatePem, device.privateKeyPem, { chain }));
    expect(chainError.message).toContain(`${chain} holds no certificate`);
  });

  it('survives a certificate cut at any byte', async () => {
    const { raw } = new X509Certificate(device.certificatePem);
    for (let length = 0; length < raw.length; length += 7) {
      const error = await failureOf(loadTexts(toPem('CERTIFICATE', raw.subarray(0, length)), device.privateKeyPem));
      expect(error.code).toBe('ERR_DPS_HSM_CERTIFICATE_INVALID');
    }
  });

  it('refuses a certificate with any byte changed, with a typed error', async () => {
    const { raw } = new X509Certificate(device.certificatePem);
    await fc.assert(
      fc.asyncProperty(fc.nat(raw.length - 1), fc.integer({ min: 1, max: 255 }), async (index, difference) => {
        const changed = Uint8Array.from(raw);
        changed[index] = (changed[index] ?? 0) ^ difference;
        const chain = toPem('CERTIFICATE', changed) + middle.certificatePem;
        await failureOf(loadTexts(chain, device.privateKeyPem));
      }),
    );
  });
});

describe('keys', () => {
  const makeKey = (privateKey: KeyObject): string => privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const ec = (namedCurve: string): string => makeKey(generateKeyPairSync('ec', { namedCurve }).privateKey);
  const cases: readonly (readonly [string, () => string | Uint8Array, RegExp])[] = [
    ['no PEM', () => 'hello', /holds no private key in PEM/],
    [
      'a certificate',
      () => device.certificatePem,
      /holds a certificate and no private key\. Were certificate and key swapped\?/,
    ],
    [
      'a public key',
      () => new X509Certificate(device.certificatePem).publicKey.export({ type: 'spki', format: 'pem' }).toString(),
      /holds a public key; the private one is wanted/,
    ],
    ['an OpenSSH key', () => toPem('OPENSSH PRIVATE KEY', new Uint8Array([1])), /ssh-keygen -p -m PEM/],
    [
      'something else',
      () => toPem('TSS2 PRIVATE KEY', new Uint8Array([0x30, 0])),
      /holds TSS2 PRIVATE KEY and no private key/,
    ],
    [
      'DER',
      () => createPrivateKey(device.privateKeyPem).export({ type: 'pkcs8', format: 'der' }),
      /is binary .* openssl pkey -inform DER/,
    ],
    ['two keys', () => device.privateKeyPem + other.privateKeyPem, /holds 2 private keys/],
    ['a cut key', () => device.privateKeyPem.slice(0, 100), /is cut: there is no line END PRIVATE KEY/],
    ['nonsense', () => toPem('PRIVATE KEY', new Uint8Array([0x30, 0])), /is damaged, or of a kind unknown here/],
    [
      'RSA of 1024 bits',
      () => makeKey(generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey),
      /RSA of 1024 bits.*Use an EC key/,
    ],
    ['secp256k1', () => ec('secp256k1'), /on the curve secp256k1/],
    ['Ed25519', () => makeKey(generateKeyPairSync('ed25519').privateKey), /of type ed25519/],
    [
      'RSA-PSS',
      () => makeKey(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).privateKey),
      /bound to RSASSA-PSS/,
    ],
  ];

  it.each(cases)('refuses %s', async (_, content, message) => {
    const certificate = await makeFile(device.chainPem, 0o644);
    const path = await makeFile(content());
    const error = await failureOf(x509FileHsm({ certificate, key: path }));
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_KEY_INVALID', operation: 'load private key' });
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    expectNoSecrets(error, [...keySecrets(device.privateKeyPem), ...keySecrets(other.privateKeyPem)]);
  });

  it.each(['P-256', 'P-384', 'P-521'])('takes one on %s', async (curve) => {
    // The curve is accepted; that the key belongs to no certificate here is what is said next.
    const error = await failureOf(loadTexts(device.chainPem, ec(curve)));
    expect(error.code).toBe('ERR_DPS_HSM_KEY_MISMATCH');
  });

  it('refuses a key file that others may read, and one that is absent', async () => {
    const certificate = await makeFile(device.chainPem, 0o644);
    const open = await makeFile(device.privateKeyPem, 0o644);
    const error = await failureOf(x509FileHsm({ certificate, key: open }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    expect(error.message).toContain(`Run: chmod 600 ${open}`);
    const absent = join(folder, 'absent');
    expect(await failureOf(x509FileHsm({ certificate, key: absent }))).toMatchObject({
      code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    });
  });

  it('says that the files were swapped before it asks for another mode', async () => {
    const error = await failureOf(
      x509FileHsm({ certificate: await makeFile(device.privateKeyPem), key: await makeFile(device.chainPem, 0o644) }),
    );
    expect(error.message).toContain('swapped');
  });

  it('says that the key file holds a certificate before it asks for another mode', async () => {
    const certificate = await makeFile(device.chainPem, 0o644);
    const error = await failureOf(x509FileHsm({ certificate, key: certificate }));
    expect(error).toMatchObject({
      code: 'ERR_DPS_HSM_KEY_INVALID',
      operation: 'load private key',
      message: `${certificate} holds a certificate and no private key. Were certificate and key swapped?`,
    });
  });

  it('asks for the mode first wherever there may be a key', async () => {
    const certificate = await makeFile(device.chainPem, 0o644);
    for (const content of [
      device.privateKeyPem,
      device.chainPem + device.privateKeyPem,
      device.chainPem + device.privateKeyPem.replace('-----BEGIN', '----BEGIN'),
      encrypt(device.privateKeyPem),
      'nothing',
    ]) {
      const key = await makeFile(content, 0o644);
      const error = await failureOf(x509FileHsm({ certificate, key }));
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
      expectNoSecrets(error, keySecrets(device.privateKeyPem));
    }
  });

  it('refuses a key of another certificate', async () => {
    const error = await failureOf(loadFiles(device.chainPem, other.privateKeyPem));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_KEY_MISMATCH' });
    expect(error.message).toMatch(/does not belong to certificate 1 \("dev-1"\) nor to one after it in /);
    const lone = await failureOf(loadFiles(device.certificatePem, other.privateKeyPem));
    expect(lone.message).toMatch(/does not belong to certificate 1 \("dev-1"\) in /);
    expectNoSecrets([error, lone], keySecrets(other.privateKeyPem));
  });
});

describe('passphrases', () => {
  const load = (passphrase?: unknown): Promise<X509Hsm> =>
    loadFiles(device.chainPem, encrypt(device.privateKeyPem), passphrase === undefined ? {} : { passphrase });

  it.each(['', '\n', '\r\n'])('are read from a file that ends in %j', async (end) => {
    const file = await makeFile(PASSPHRASE + end);
    expect(await (await load({ file })).registrationId(signal)).toBe('dev-1');
  });

  it('are asked for when they are missing', async () => {
    const error = await failureOf(load());
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_PASSPHRASE' });
    expect(error.message).toMatch(/ is encrypted: give \{ file: … \} as option hsm\.passphrase\.$/);
  });

  it('are never shown, and always known to be wrong when they are', async () => {
    // Some in a few hundred decrypt to padding that is right by chance, and fail in another way.
    const encrypted = encrypt(device.privateKeyPem);
    for (let attempt = 0; attempt < 600; attempt += 1) {
      const passphrase = `wrong canary ${attempt}`;
      const error = await failureOf(loadTexts(device.chainPem, encrypted, { passphrase }));
      expect(error.code).toBe('ERR_DPS_HSM_PASSPHRASE');
      if (attempt < 20) expectNoSecrets(error, ['wrong canary', ...keySecrets(device.privateKeyPem)]);
    }
  });

  it('in a file have to be as secret as the key, and text', async () => {
    expect(await failureOf(load({ file: await makeFile(PASSPHRASE, 0o640) }))).toMatchObject({
      code: 'ERR_DPS_HSM_FILE_MODE',
    });
    expect(await failureOf(load({ file: await makeFile(new Uint8Array([0xff, 0x41])) }))).toMatchObject({
      code: 'ERR_DPS_HSM_PASSPHRASE',
    });
  });

  it('are ignored for a key that needs none', async () => {
    const hsm = await loadTexts(device.chainPem, device.privateKeyPem, { passphrase: PASSPHRASE });
    expect(await hsm.registrationId(signal)).toBe('dev-1');
  });
});
