import { createPrivateKey } from 'node:crypto';

export const PASSPHRASE = 'canary pässphrase ';

/** The key in PKCS #8, encrypted. */
export function encrypt(keyPem: string, passphrase = PASSPHRASE): string {
  const key = createPrivateKey(keyPem);
  return key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase }).toString();
}

/** Lines of the key, in Base64: what a careless message would show. */
export function keySecrets(keyPem: string): string[] {
  const [, ...lines] = keyPem.trim().split('\n');
  const der = createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' });
  return [
    ...lines.slice(0, -1).filter((line) => line.length > 10),
    der.toString('hex'),
    der.subarray(20, 40).join(', '),
  ];
}

export function toPem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`;
}
