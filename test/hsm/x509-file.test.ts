import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type X509FileHsmOptions, x509FileHsm } from '../../hsm/x509-file.js';
import type { X509Hsm } from '../../src/core/attestation.js';
import {
  type CertificateAuthority,
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
  makeSelfSigned,
  type SelfSignedOptions,
} from '../../src/emulator/pki.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
import { describeHsmContract, expectNoSecrets } from '../contracts/hsm.js';

const { signal } = new AbortController();
const PASSPHRASE = 'canary pässphrase ';

let folder = '';
let counter = 0;
let root: CertificateAuthority;
let middle: CertificateAuthority;
let device: IssuedCertificate;
let other: IssuedCertificate;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dps-device-x509-'));
  root = await makeAuthority({ commonName: 'Root' });
  middle = await makeAuthority({ commonName: 'Middle', issuer: root });
  device = await issueCertificate(middle, { commonName: 'dev-1', usage: 'client' });
  other = await issueCertificate(middle, { commonName: 'dev-2', usage: 'client' });
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function makeFile(content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, `file-${counter++}`);
  await writeFile(path, content, { mode });
  return path;
}

/** From texts to files to the HSM: all that is not under test stays right. */
async function loadFiles(certificatePem: string, keyPem: string, more: object = {}): Promise<X509Hsm> {
  return x509FileHsm({ certificate: await makeFile(certificatePem, 0o644), key: await makeFile(keyPem), ...more });
}

function loadTexts(certificatePem: string, keyPem: string, more: object = {}): Promise<X509Hsm> {
  return x509FileHsm({ certificatePem, keyPem, ...more });
}

async function failureOf(work: Promise<unknown>): Promise<HsmError | ConfigurationError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof HsmError || error instanceof ConfigurationError) return error;
  throw new Error(`Expected an HsmError or a ConfigurationError, not ${String(error)}.`);
}

async function chainOf(hsm: X509Hsm): Promise<string> {
  return (await hsm.tlsCredential(0, signal)).certificateChainPem;
}

function encrypt(keyPem: string, passphrase = PASSPHRASE): string {
  const key = createPrivateKey(keyPem);
  return key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString();
}

/** Lines of the key, in Base64: what a careless message would show. */
function keySecrets(keyPem: string): string[] {
  const [, ...lines] = keyPem.trim().split('\n');
  const der = createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' });
  return [
    ...lines.slice(0, -1).filter((line) => line.length > 10),
    der.toString('hex'),
    der.subarray(20, 40).join(', '),
  ];
}

function toPem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`;
}

describeHsmContract('x509FileHsm with files', async () => ({
  hsm: await loadFiles(device.chainPem, encrypt(device.privateKeyPem), { passphrase: PASSPHRASE }),
  registrationId: 'dev-1',
  secrets: [...keySecrets(device.privateKeyPem), PASSPHRASE],
}));

describeHsmContract('x509FileHsm with texts and an RSA key', async () => {
  const made = await makeSelfSigned({ commonName: 'rsa-1', keyAlgorithm: 'RSA-2048' });
  return {
    hsm: await loadTexts(made.chainPem, made.privateKeyPem),
    registrationId: 'rsa-1',
    secrets: keySecrets(made.privateKeyPem),
  };
});

describe('the credential', () => {
  it('is the chain and the key', async () => {
    const hsm = await loadFiles(device.chainPem, device.privateKeyPem);
    expect(await hsm.tlsCredential(0, signal)).toEqual({
      certificateChainPem: device.certificatePem + middle.certificatePem,
      privateKeyPem: device.privateKeyPem,
    });
    expect(hsm.slots ?? 1).toBe(1);
  });

  it('takes the intermediates from a file of their own, and each certificate once', async () => {
    const chain = await makeFile(device.chainPem, 0o644);
    const expected = device.certificatePem + middle.certificatePem;
    expect(await chainOf(await loadFiles(device.certificatePem, device.privateKeyPem, { chain }))).toBe(expected);
    const texts = await loadTexts(device.certificatePem, device.privateKeyPem, { chainPem: middle.certificatePem });
    expect(await chainOf(texts)).toBe(expected);
  });

  it('may end in the root, and may be a lone leaf', async () => {
    const whole = device.chainPem + root.certificatePem;
    expect(await chainOf(await loadTexts(whole, device.privateKeyPem))).toBe(whole);
    expect(await chainOf(await loadTexts(device.certificatePem, device.privateKeyPem))).toBe(device.certificatePem);
  });

  it('accepts a leaf that may itself issue, as some test authorities are used', async () => {
    const authority = await makeAuthority({ commonName: 'dev-ca' });
    expect(await (await loadTexts(authority.certificatePem, authority.privateKeyPem)).registrationId(signal)).toBe(
      'dev-ca',
    );
  });

  it('comes without the passphrase, whatever kind of encryption the key had', async () => {
    const key = createPrivateKey(device.privateKeyPem);
    const old = key.export({ type: 'sec1', format: 'pem', cipher: 'aes-128-cbc', passphrase: PASSPHRASE }).toString();
    expect(old).toContain('Proc-Type: 4,ENCRYPTED');
    for (const encrypted of [
      old,
      old.replaceAll('\n', '\r\n'),
      old.replaceAll(/^/gm, '  '),
      encrypt(device.privateKeyPem),
    ]) {
      const hsm = await loadTexts(device.chainPem, encrypted, { passphrase: PASSPHRASE });
      expect((await hsm.tlsCredential(0, signal)).privateKeyPem).toBe(device.privateKeyPem);
    }
  });
});

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

describe('chain order', () => {
  it('says how to reorder certificates that belong together', async () => {
    const pem = device.certificatePem + root.certificatePem + middle.certificatePem;
    const error = await failureOf(loadFiles(pem, device.privateKeyPem));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CHAIN_ORDER' });
    expect(error.message).toMatch(
      /certificate 1 \("dev-1"\) is followed by 2 \("Root"\), which did not issue it\. Reordering mends it: put them in the order 1, 3, 2\.$/,
    );
  });

  it('finds the leaf that is not the first', async () => {
    const pem = root.certificatePem + middle.certificatePem + device.certificatePem;
    const error = await failureOf(loadFiles(pem, device.privateKeyPem));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CHAIN_ORDER' });
    expect(error.message).toMatch(
      /belongs to certificate 3 \("dev-1"\) of .*but the device's own must be the first\. Reordering mends it: put them in the order 3, 2, 1\.$/,
    );
  });

  it('says which certificate has no place in the chain', async () => {
    const error = await failureOf(loadFiles(device.certificatePem + other.chainPem, device.privateKeyPem));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CHAIN_ORDER' });
    expect(error.message).toMatch(
      /Reordering alone does not mend it: the longest chain from the device's own is 1, 3, and no path leads to 2 \("dev-2"\)/,
    );
    const gap = await failureOf(loadFiles(device.certificatePem + root.certificatePem, device.privateKeyPem));
    expect(gap.message).toMatch(
      /the longest chain from the device's own is 1, and no path leads to 2 \("Root"\)\. Add the certificate that is missing/,
    );
  });

  it('is not fooled by an issuer of the same name, nor by a signature that is not the issuer’s', async () => {
    const impostor = await makeAuthority({ commonName: 'Middle', issuer: root });
    expect(
      await failureOf(loadTexts(device.certificatePem + impostor.certificatePem, device.privateKeyPem)),
    ).toMatchObject({
      code: 'ERR_DPS_HSM_CHAIN_ORDER',
    });
    // The key that signed is the one of the certificate that follows; the name is not.
    const mixed = { ...root, privateKeyPem: middle.privateKeyPem };
    const made = await issueCertificate(mixed, { commonName: 'dev-1', usage: 'client' });
    expect(await failureOf(loadTexts(made.certificatePem + middle.certificatePem, made.privateKeyPem))).toMatchObject({
      code: 'ERR_DPS_HSM_CHAIN_ORDER',
    });
    const forged = Uint8Array.from(new X509Certificate(device.certificatePem).raw);
    forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1;
    expect(
      await failureOf(loadTexts(toPem('CERTIFICATE', forged) + middle.certificatePem, device.privateKeyPem)),
    ).toMatchObject({ code: 'ERR_DPS_HSM_CHAIN_ORDER' });
  });
});

describe('registration id', () => {
  const make = (options: SelfSignedOptions): Promise<X509Hsm> =>
    makeSelfSigned(options).then((made) => loadTexts(made.certificatePem, made.privateKeyPem));

  it.each<[SelfSignedOptions, string]>([
    [{ commonName: 'Dev-1.a:b_c', subjectExtra: [{ C: ['DE'] }, { O: ['Contoso, "Ltd." + é', 'x'] }] }, 'Dev-1.a:b_c'],
    [{ commonName: '', subjectExtra: [{ OU: ['line'], CN: ['dev-1'], O: ['CN=evil'] }] }, 'dev-1'],
    [{ commonName: 'dev-1', subjectExtra: [{ O: ['a\nCN=evil'] }, { OU: ['a + CN=evil'] }] }, 'dev-1'],
    [{ commonName: 'dev-1', subjectExtra: [{ OU: ['CN=evil, CN=worse'] }] }, 'dev-1'],
  ])('is the common name of %o', async (options, id) => {
    expect(await (await make(options)).registrationId(signal)).toBe(id);
  });

  it.each<[SelfSignedOptions, RegExp]>([
    [{ commonName: '' }, /has no common name/],
    [{ commonName: '', subjectExtra: [{ O: ['CN=dev-1'] }] }, /has no common name/],
    [{ commonName: 'dev-1', subjectExtra: [{ CN: ['dev-2'] }] }, /has 2 common names/],
    [{ commonName: 'dev 1' }, /cannot be one\. The registration id has a space at position 4/],
    [{ commonName: 'dév' }, /U\+00E9 at position 2/],
    [{ commonName: 'dev-1\0' }, /U\+0000/],
    [{ commonName: 'dev_' }, /last character/],
  ])('refuses %o', async (options, message) => {
    const error = await failureOf(make(options));
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_REGISTRATION_ID' });
    expect(error.message).toMatch(message);
  });

  it('must be the one that was expected, if one was', async () => {
    const hsm = await loadFiles(device.chainPem, device.privateKeyPem, { registrationId: 'dev-1' });
    expect(await hsm.registrationId(signal)).toBe('dev-1');
    const error = await failureOf(loadFiles(device.chainPem, device.privateKeyPem, { registrationId: 'DEV-1' }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_REGISTRATION_ID' });
    expect(error.message).toMatch(/"DEV-1".*"dev-1".*letter case included/);
  });
});

describe('dates', () => {
  const fromMs = Date.UTC(2027, 0, 1);
  const toMs = Date.UTC(2028, 0, 1);
  const load = async (wallMs: number): Promise<X509Hsm> => {
    const made = await makeSelfSigned({ commonName: 'dev-1', notBeforeMs: fromMs, notAfterMs: toMs });
    return loadTexts(made.certificatePem, made.privateKeyPem, { clock: { wallMs: () => wallMs } });
  };

  it.each([fromMs, Date.UTC(2027, 5, 1), toMs])('are right at %d', async (wallMs) => {
    expect(await (await load(wallMs)).registrationId(signal)).toBe('dev-1');
  });

  it('refuses a certificate that expired, with the dates', async () => {
    const error = await failureOf(load(toMs + 1));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED' });
    expect(error.message).toBe(
      `Certificate 1 ("dev-1") in option hsm.certificatePem expired on 2028-01-01T00:00:00.000Z; the device's clock says 2028-01-01T00:00:00.001Z. Renew it, or set the clock if that is wrong.`,
    );
  });

  it('refuses a certificate that is not valid yet, with the dates', async () => {
    const error = await failureOf(load(fromMs - 1));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID' });
    expect(error.message).toMatch(
      /valid only from 2027-01-01T00:00:00\.000Z; the device's clock says 2026-12-31T23:59:59\.999Z/,
    );
  });

  it.each([0, 1, Date.UTC(2025, 11, 31), -1, Number.NaN, 2 ** 45])(
    'condemns nothing when the clock says %d',
    async (wallMs) => {
      expect(await (await load(wallMs)).registrationId(signal)).toBe('dev-1');
    },
  );

  it('refuses an intermediate that expired, and names it', async () => {
    const expired = await makeAuthority({
      commonName: 'Old',
      issuer: root,
      notBeforeMs: fromMs,
      notAfterMs: fromMs + 1000,
    });
    const made = await issueCertificate(expired, {
      commonName: 'dev-1',
      usage: 'client',
      notBeforeMs: fromMs,
      notAfterMs: toMs,
    });
    const clock = { wallMs: () => fromMs + 5000 };
    const error = await failureOf(loadTexts(made.chainPem, made.privateKeyPem, { clock }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED' });
    expect(error.message).toContain('Certificate 2 ("Old")');
  });

  it('are held against the clock of this machine by default', async () => {
    const made = await makeSelfSigned({ commonName: 'dev-1', nowMs: Date.now() - 2 * 365 * 86_400_000 });
    expect(await failureOf(loadTexts(made.certificatePem, made.privateKeyPem))).toMatchObject({
      code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED',
    });
  });
});

describe('options', () => {
  const key = 'device.key';
  const certificate = 'device.pem';
  it.each([
    [null, 'ERR_DPS_CONFIG_OPTION', 'hsm'],
    [{}, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.certificate'],
    [{ key }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.certificate'],
    [{ certificate }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.key'],
    [{ certificate: 7, key }, 'ERR_DPS_CONFIG_OPTION', 'hsm.certificate'],
    [{ certificate, key: '' }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key'],
    [{ certificate, key, chain: ['a'] }, 'ERR_DPS_CONFIG_OPTION', 'hsm.chain'],
    [{ certificatePem: 'x' }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.keyPem'],
    [{ keyPem: 'x' }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.certificatePem'],
    [{ certificate, keyPem: 'x' }, 'ERR_DPS_CONFIG_OPTION', 'hsm.certificatePem'],
    [{ certificate, key, passphrase: 7 }, 'ERR_DPS_CONFIG_OPTION', 'hsm.passphrase'],
    [{ certificate, key, passphrase: { file: '' } }, 'ERR_DPS_CONFIG_OPTION', 'hsm.passphrase.file'],
    [{ certificate, key, clock: 7 }, 'ERR_DPS_CONFIG_OPTION', 'hsm.clock'],
    [{ certificate, key, clock: {} }, 'ERR_DPS_CONFIG_OPTION', 'hsm.clock'],
    [{ certificate, key, registrationId: 7 }, 'ERR_DPS_CONFIG_OPTION', 'hsm.registrationId'],
    [{ certificate, key, cert: 'x' }, 'ERR_DPS_CONFIG_UNKNOWN_OPTION', 'hsm.cert'],
  ])('refuses %o', async (options, code, option) => {
    const error = await failureOf(x509FileHsm(options as X509FileHsmOptions));
    expect(error).toMatchObject({ name: 'ConfigurationError', code, option });
  });

  it.each(['certificate', 'key', 'chain'])(
    'asks for the path itself, where an object with it was given (%s)',
    async (name) => {
      const options = { certificate, key, [name]: { file: 'device.pem' } } as unknown as X509FileHsmOptions;
      expect(await failureOf(x509FileHsm(options))).toMatchObject({
        code: 'ERR_DPS_CONFIG_OPTION',
        option: `hsm.${name}`,
        message: expect.stringMatching(
          /^Option hsm\.\w+ must be the path itself, e\.g\. '[a-z]+\.(pem|key)', not an object with it\.$/,
        ),
      });
    },
  );

  it('shows nothing of a key that was given as a path', async () => {
    for (const options of [
      { certificate, key: device.privateKeyPem },
      { certificate: device.privateKeyPem, key },
      { certificate, key, passphrase: { file: device.privateKeyPem } },
    ]) {
      const error = await failureOf(x509FileHsm(options));
      expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_OPTION' });
      expectNoSecrets(error, keySecrets(device.privateKeyPem));
    }
  });
});

describe('cancellation', () => {
  it('stops loading', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    const files = { certificate: await makeFile(device.chainPem, 0o644), key: await makeFile(device.privateKeyPem) };
    const texts = { certificatePem: device.chainPem, keyPem: device.privateKeyPem };
    for (const options of [files, texts]) {
      await expect(x509FileHsm(options, aborted)).rejects.toMatchObject({
        code: 'ERR_DPS_CANCELLED',
        cause: { message: 'enough' },
      });
    }
  });

  it('stops between two files', async () => {
    const controller = new AbortController();
    const options = { certificate: await makeFile(device.chainPem, 0o644), key: await makeFile(device.privateKeyPem) };
    const loading = x509FileHsm(options, controller.signal);
    controller.abort();
    await expect(loading).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});
