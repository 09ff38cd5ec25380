import { type CertificateAuthority, issueCertificate, makeAuthority } from '../../src/emulator/pki.js';

export interface BenchCertificates {
  readonly authority: CertificateAuthority;
  /** For `localhost`, `127.0.0.1` and `::1`. */
  readonly server: { readonly cert: string; readonly key: string };
  readonly device: { readonly certificateChainPem: string; readonly privateKeyPem: string };
}

let made: Promise<BenchCertificates> | undefined;

/** Made once for each test file. */
export function benchCertificates(): Promise<BenchCertificates> {
  made ??= makeBenchCertificates();
  return made;
}

async function makeBenchCertificates(): Promise<BenchCertificates> {
  const authority = await makeAuthority({ commonName: 'bench root' });
  const server = await issueCertificate(authority, {
    commonName: 'localhost',
    usage: 'server',
    dnsNames: ['localhost'],
    ipAddresses: ['127.0.0.1', '::1'],
  });
  const device = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
  return {
    authority,
    server: { cert: server.chainPem, key: server.privateKeyPem },
    device: { certificateChainPem: device.chainPem, privateKeyPem: device.privateKeyPem },
  };
}
