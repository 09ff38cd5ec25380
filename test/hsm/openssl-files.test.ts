/** Files as people make them: with the openssl command line, not with our own certificate maker. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { x509FileHsm } from '../../hsm/x509-file.js';
import { startEmulator } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';

const folder = mkdtempSync(join(tmpdir(), 'dps-device-openssl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const file = (name: string): string => join(folder, name);
const signal = new AbortController().signal;

function openssl(...args: readonly string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
}

function makeKey(name: string, ...args: readonly string[]): string {
  const [command = '', ...rest] = args;
  openssl(command, '-out', name, ...rest);
  chmodSync(file(name), 0o600);
  return file(name);
}

function selfSign(name: string, key: string, commonName: string, ...extra: readonly string[]): string {
  openssl(
    'req',
    '-x509',
    '-new',
    '-key',
    key,
    '-subj',
    `/O=Example, Inc./CN=${commonName}`,
    '-days',
    '30',
    '-out',
    name,
    ...extra,
  );
  return file(name);
}

describe('files made with openssl', () => {
  it.each([
    ['EC P-256, PKCS#8', ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256']],
    ['EC P-384, SEC1 with parameters', ['ecparam', '-name', 'secp384r1', '-genkey']],
    ['RSA 2048, PKCS#8', ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048']],
    ['RSA 2048, PKCS#1', ['genrsa', '-traditional', '2048']],
  ])('%s', async (name, args) => {
    const id = name.replace(/\W+/g, '-').toLowerCase();
    const key = makeKey(`${id}.key`, ...args);
    const hsm = await x509FileHsm({ certificate: selfSign(`${id}.pem`, key, id), key });
    expect(await hsm.registrationId(signal)).toBe(id);
  });

  it.each([
    [
      'AES-256 PKCS#8',
      ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-aes256', '-pass', 'file:pass.txt'],
    ],
    ['AES-128 PKCS#1', ['genrsa', '-traditional', '-aes128', '-passout', 'file:pass.txt', '2048']],
  ])('an encrypted key, %s, opens with its passphrase only', async (name, args) => {
    const id = name.replace(/\W+/g, '-').toLowerCase();
    writeFileSync(file('pass.txt'), 'open sesame', { mode: 0o600 });
    const key = makeKey(`${id}.key`, ...args);
    const certificate = selfSign(`${id}.pem`, key, id, '-passin', 'file:pass.txt');
    const passphrase = { file: file('pass.txt') };
    expect(await (await x509FileHsm({ certificate, key, passphrase })).registrationId(signal)).toBe(id);
    await expect(x509FileHsm({ certificate, key })).rejects.toMatchObject({ code: 'ERR_DPS_HSM_PASSPHRASE' });
    await expect(x509FileHsm({ certificate, key, passphrase: 'wrong' })).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_PASSPHRASE',
    });
  });

  it('provision a device from a chain with text around the blocks', async () => {
    const caKey = makeKey('ca.key', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256');
    const ca = selfSign('ca.pem', caKey, 'openssl-ca');
    const key = makeKey('leaf.key', 'genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256');
    openssl('req', '-new', '-key', 'leaf.key', '-subj', '/CN=leaf-1', '-out', 'leaf.csr');
    // `-text` writes a page for people above the block, as `openssl ca` does.
    openssl(
      'x509',
      '-req',
      '-in',
      'leaf.csr',
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '30',
      '-text',
      '-out',
      'leaf.pem',
    );
    const emulator = await startEmulator();
    try {
      const signing = { primary: { certificate: readFileSync(ca, 'utf8') } };
      emulator.enrollGroup({ enrollmentGroupId: 'g', attestation: { x509: { signingCertificates: signing } } });
      emulator.faults.add({ at: 'dps.register', action: { kind: 'retryAfter', value: '0' } });
      const device = await provision({
        idScope: emulator.idScope,
        endpoint: emulator.endpoints.dps.mqtt,
        ca: emulator.caPem,
        hsm: { kind: 'x509', certificate: file('leaf.pem'), key },
      });
      expect(device.deviceId).toBe('leaf-1');
    } finally {
      await emulator.close();
    }
  });
});
