import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  type CertificateAuthority,
  issueCertificate,
  type KeyAlgorithm,
  makeAuthority,
  makeSelfSigned,
} from '../../src/emulator/pki.js';

const NOW_MS = Date.UTC(2026, 5, 1, 12, 0, 0);
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

function parse(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? [];
  expect(blocks.join('')).toBe(pem);
  return blocks.map((block) => new X509Certificate(block));
}

function parseOne(pem: string): X509Certificate {
  const [certificate, ...others] = parse(pem);
  if (certificate === undefined || others.length > 0) throw new Error('not one certificate');
  return certificate;
}

function expectIssued(certificate: X509Certificate, issuer: X509Certificate): void {
  expect(certificate.checkIssued(issuer)).toBe(true);
  expect(certificate.verify(issuer.publicKey)).toBe(true);
}

async function makeLine(keyAlgorithm: KeyAlgorithm): Promise<CertificateAuthority[]> {
  const root = await makeAuthority({ commonName: 'Root', keyAlgorithm });
  const first = await makeAuthority({ commonName: 'First', issuer: root, keyAlgorithm });
  const second = await makeAuthority({ commonName: 'Second', issuer: first, keyAlgorithm });
  return [root, first, second];
}

describe.each<KeyAlgorithm>(['EC-P256', 'EC-P384', 'RSA-2048'])('with %s keys', (keyAlgorithm) => {
  it('makes a chain in which each certificate is issued by the next', async () => {
    const [root, first, second] = await makeLine(keyAlgorithm);
    if (root === undefined || first === undefined || second === undefined) throw new Error('no authorities');
    const leaf = await issueCertificate(second, { commonName: 'dev-1', usage: 'client', keyAlgorithm });
    const chain = parse(leaf.chainPem);
    expect(chain).toHaveLength(3);
    expect(leaf.chainPem).toBe(leaf.certificatePem + second.certificatePem + first.certificatePem);
    expect([root.chainPem, first.chainPem, second.chainPem]).toEqual([
      '',
      first.certificatePem,
      second.certificatePem + first.certificatePem,
    ]);
    expect([root.rootPem, first.rootPem, second.rootPem]).toEqual(Array(3).fill(root.certificatePem));
    const line = [...chain, parseOne(root.certificatePem)];
    line.slice(1).forEach((issuer, index) => {
      const certificate = line[index];
      if (certificate === undefined) throw new Error('no certificate');
      expectIssued(certificate, issuer);
    });
    expectIssued(parseOne(root.certificatePem), parseOne(root.certificatePem));
    // ecdsa-with-SHA256, ecdsa-with-SHA384, sha256WithRSAEncryption
    const algorithm = {
      'EC-P256': '2a8648ce3d040302',
      'EC-P384': '2a8648ce3d040303',
      'RSA-2048': '2a864886f70d01010b',
    };
    for (const { raw } of line)
      expect(raw.toString('hex')).toContain(
        `06${algorithm[keyAlgorithm].length === 16 ? '08' : '09'}${algorithm[keyAlgorithm]}`,
      );
  });

  it('returns the key that belongs to the certificate, as PKCS#8', async () => {
    const made = await makeSelfSigned({ commonName: 'dev-1', keyAlgorithm });
    expect(made.privateKeyPem).toMatch(/^-----BEGIN PRIVATE KEY-----\n/);
    const key = createPrivateKey(made.privateKeyPem);
    expect(parseOne(made.certificatePem).checkPrivateKey(key)).toBe(true);
    const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
    expect({ modulusLength, namedCurve }).toEqual(
      {
        'EC-P256': { modulusLength: undefined, namedCurve: 'prime256v1' },
        'EC-P384': { modulusLength: undefined, namedCurve: 'secp384r1' },
        'RSA-2048': { modulusLength: 2048, namedCurve: undefined },
      }[keyAlgorithm],
    );
  });

  it('satisfies a TLS handshake in which both sides check the chain, by name and by address', async () => {
    const [root, , second] = await makeLine(keyAlgorithm);
    if (root === undefined || second === undefined) throw new Error('no authorities');
    const names = { dnsNames: ['localhost'], ipAddresses: ['127.0.0.1', '::1'] };
    const server = await issueCertificate(second, { commonName: 'localhost', usage: 'server', keyAlgorithm, ...names });
    const client = await issueCertificate(second, { commonName: 'dev-1', usage: 'client', keyAlgorithm });
    const listener = createServer({
      cert: server.chainPem,
      key: server.privateKeyPem,
      ca: root.certificatePem,
      requestCert: true,
      rejectUnauthorized: true,
    });
    const seen: string[] = [];
    listener.on('secureConnection', (socket: TLSSocket) => {
      seen.push(String(socket.getPeerCertificate().subject.CN));
      socket.end('ok');
    });
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const { port } = listener.address() as AddressInfo;
    try {
      // Without a server name the certificate is held against the address.
      for (const servername of ['localhost', undefined]) {
        const socket = connect({
          host: '127.0.0.1',
          port,
          ca: root.rootPem,
          cert: client.chainPem,
          key: client.privateKeyPem,
          ...(servername === undefined ? {} : { servername }),
        });
        const [data] = await once(socket, 'data');
        expect(String(data)).toBe('ok');
        expect(socket.authorized).toBe(true);
        socket.destroy();
      }
    } finally {
      listener.close();
    }
    expect(seen).toEqual(['dev-1', 'dev-1']);
  });
});

describe('purposes', () => {
  it('marks authorities as such, and leaves as what they are for', async () => {
    const root = await makeAuthority({ commonName: 'Root' });
    const server = await issueCertificate(root, { commonName: 'hub', usage: 'server' });
    const client = await issueCertificate(root, { commonName: 'dev-1', usage: 'client' });
    const self = await makeSelfSigned({ commonName: 'dev-2' });
    const purposes = [root, server, client, self].map((made) => {
      const { ca, keyUsage } = parseOne(made.certificatePem);
      return { ca, extended: keyUsage };
    });
    expect(purposes).toEqual([
      { ca: true, extended: undefined },
      { ca: false, extended: ['1.3.6.1.5.5.7.3.1'] },
      { ca: false, extended: ['1.3.6.1.5.5.7.3.2'] },
      { ca: false, extended: ['1.3.6.1.5.5.7.3.2'] },
    ]);
    expect(self.chainPem).toBe(self.certificatePem);
    expect(client.chainPem).toBe(client.certificatePem);
  });

  it('writes basic constraints and key usage as critical extensions, byte for byte', async () => {
    const der = async (usage: 'ca' | 'ec' | 'rsa'): Promise<string> => {
      const made =
        usage === 'ca'
          ? await makeAuthority({ commonName: 'A' })
          : await makeSelfSigned({ commonName: 'A', keyAlgorithm: usage === 'rsa' ? 'RSA-2048' : 'EC-P256' });
      return parseOne(made.certificatePem).raw.toString('hex');
    };
    // OID 2.5.29.19, critical; cA TRUE or nothing. OID 2.5.29.15, critical; keyCertSign + cRLSign, digitalSignature, + keyEncipherment.
    const authority = await der('ca');
    expect(authority).toContain('0603551d130101ff040530030101ff');
    expect(authority).toContain('0603551d0f0101ff040403020106');
    const leaf = await der('ec');
    expect(leaf).toContain('0603551d130101ff04023000');
    expect(leaf).toContain('0603551d0f0101ff040403020780');
    expect(await der('rsa')).toContain('0603551d0f0101ff0404030205a0');
  });

  it('writes alternative names', async () => {
    const made = await makeSelfSigned({
      commonName: '',
      usage: 'server',
      dnsNames: ['localhost', 'hub.example'],
      ipAddresses: ['127.0.0.1', '::1'],
    });
    const certificate = parseOne(made.certificatePem);
    expect(certificate.subjectAltName).toBe(
      'DNS:localhost, DNS:hub.example, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
    );
    expect(certificate.subject ?? '').not.toContain('CN=');
  });
});

describe('subject', () => {
  it('takes further parts, multi-valued ones, and characters that text forms would have to escape', async () => {
    const made = await makeSelfSigned({
      commonName: 'dev,1+"x"\\y #é',
      subjectExtra: [{ C: ['DE'] }, { O: ['#Contoso'], OU: ['a', 'b'] }],
    });
    const { raw } = parseOne(made.certificatePem);
    for (const text of ['dev,1+"x"\\y #é', '#Contoso', 'DE']) expect(raw.includes(Buffer.from(text))).toBe(true);
    expect(parseOne(made.certificatePem).subject.split('\n')).toHaveLength(3);
  });
});

describe('validity and serial number', () => {
  it('is valid from an hour before now to 365 days after it', async () => {
    const { validFrom, validTo } = parseOne(
      (await makeSelfSigned({ commonName: 'dev-1', nowMs: NOW_MS })).certificatePem,
    );
    expect(Date.parse(validFrom)).toBe(NOW_MS - HOUR_MS);
    expect(Date.parse(validTo)).toBe(NOW_MS + 365 * DAY_MS);
  });

  it('takes other dates, also past 2050 where their encoding changes', async () => {
    const notBeforeMs = Date.UTC(2010, 0, 1);
    const notAfterMs = Date.UTC(2060, 1, 3, 4, 5, 6, 789);
    const { validFrom, validTo } = parseOne(
      (await makeAuthority({ commonName: 'Root', notBeforeMs, notAfterMs })).certificatePem,
    );
    expect(Date.parse(validFrom)).toBe(notBeforeMs);
    expect(Date.parse(validTo)).toBe(Date.UTC(2060, 1, 3, 4, 5, 6));
  });

  it('numbers with 16 random bytes, positive', async () => {
    const root = await makeAuthority({ commonName: 'Root' });
    const serials = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const made = await issueCertificate(root, { commonName: 'dev-1', usage: 'client' });
        return parseOne(made.certificatePem).serialNumber;
      }),
    );
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
    expect(new Set(serials).size).toBe(serials.length);
  });
});

describe('an authority made elsewhere', () => {
  it('issues once it was read from its files again', async () => {
    const root = await makeAuthority({ commonName: 'Root', keyAlgorithm: 'EC-P384' });
    const stored = JSON.parse(JSON.stringify(root)) as CertificateAuthority;
    const leaf = await issueCertificate(stored, { commonName: 'dev-1', usage: 'client' });
    expectIssued(parseOne(leaf.certificatePem), parseOne(root.certificatePem));
  });
});

describe('the engine', () => {
  it('leaves Reflect as it was', async () => {
    const before = Reflect.ownKeys(Reflect);
    await makeSelfSigned({ commonName: 'dev-1' });
    expect(Reflect.ownKeys(Reflect)).toEqual(before);
    expect(Reflect.has(Reflect, 'getMetadata')).toBe(false);
  });

  it('works compiled into lazily loaded chunks, and in a Node without a global crypto', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'dps-device-pki-'));
    const { build } = await import('esbuild');
    await build({
      stdin: {
        // Node 18 has no global crypto by default; later ones lose it before the engine looks for it.
        contents: `import { makeSelfSigned } from './src/emulator/pki.ts';
          delete globalThis.crypto;
          const { certificatePem } = await makeSelfSigned({ commonName: 'bundled' });
          console.log(typeof globalThis.crypto, typeof Reflect.getMetadata, certificatePem);`,
        resolveDir: fileURLToPath(new URL('../..', import.meta.url)),
      },
      bundle: true,
      splitting: true,
      platform: 'node',
      format: 'esm',
      outdir: folder,
      outExtension: { '.js': '.mjs' },
    });
    const printed = execFileSync(process.execPath, [join(folder, 'stdin.mjs')], { encoding: 'utf8' });
    await rm(folder, { recursive: true });
    const [cryptoType, metadataType, ...rest] = printed.split(' ');
    expect([cryptoType, metadataType]).toEqual(['undefined', 'undefined']);
    expect(parseOne(`${rest.join(' ').trim()}\n`).subject).toBe('CN=bundled');
  });
});
