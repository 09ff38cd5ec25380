import { createPrivateKey, X509Certificate } from 'node:crypto';
import { resolve } from 'node:path';
import { ConfigurationError } from '../errors.js';
import { openSection, type Read, readText, required, wrongOption } from './config-reader.js';
import { readRegularFile } from './regular-file.js';

/** PEM text, Base64 of DER, or a file with either, relative to the configuration. */
export type PemSource = string | { readonly file: string };

const MAX_PEM_BYTES = 1_048_576;

/** Reads a certificate source; a file with several gives its first. */
export function readCertificate(baseDirectory: string): Read<X509Certificate> {
  return (value, path) => {
    const text = readSource(value, path, baseDirectory);
    try {
      return new X509Certificate(text.includes('-----BEGIN') ? text : Buffer.from(text, 'base64'));
    } catch (cause) {
      throw new ConfigurationError({
        code: 'ERR_DPS_CONFIG_OPTION',
        message: `${path} is not a certificate; give PEM text, Base64 of DER, or {"file": "…"}.`,
        option: path,
        cause,
      });
    }
  };
}

/** Reads a private key source as PEM. What is wrong with a key is not told in detail: the text may be one. */
export function readPrivateKey(baseDirectory: string): Read<string> {
  return (value, path) => {
    const text = readSource(value, path, baseDirectory);
    try {
      return createPrivateKey(text).export({ type: 'pkcs8', format: 'pem' }).toString();
    } catch {
      throw wrongOption(path, 'is not a private key in PEM without passphrase');
    }
  };
}

function readSource(value: unknown, path: string, baseDirectory: string): string {
  if (typeof value === 'string') return readText(value, path);
  const file = resolve(baseDirectory, required(openSection(value, path, ['file']), 'file', readText));
  const found = readRegularFile(file, MAX_PEM_BYTES);
  if ('text' in found) return found.text.trim();
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${path}.file: ${file} ${found.problem}`,
    option: `${path}.file`,
    cause: found.cause,
  });
}
