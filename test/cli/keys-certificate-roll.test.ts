import type { X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeSigningRequest } from '../../hsm/key-store/signing-request.js';
import { openKeyStore } from '../../hsm/software-key-store.js';
import { EXIT } from '../../src/cli/exit-codes.js';
import { signRequest } from '../hsm/key-store/store-bench.js';
import { keys, keysBench, succeed } from './keys-bench.js';

interface Renewal {
  readonly flags: readonly string[];
  /** What `keys` gets, but for the step. */
  readonly rotate: readonly string[];
  readonly certFile: string;
  /** SHA-256 of the certificate in use, and of the one in the file. */
  readonly first: string;
  readonly renewed: string;
}

/** An entry with a certificate, and a renewed one for the same key in a file. */
async function renewal(): Promise<Renewal> {
  const { folder, store, keyFile, flags } = keysBench();
  await succeed(['make', '--key-name', 'dev', '--kind', 'self-signed', ...flags]);
  const opened = await openKeyStore({ directory: store, sealingKey: { file: keyFile } });
  const { key, certificates } = await opened.authority('dev');
  const renewed = await signRequest(makeSigningRequest(key, 'dev'));
  const certFile = join(folder, 'renewed.pem');
  writeFileSync(certFile, renewed.toString());
  const [first] = certificates;
  const rotate = ['rotate', '--key-name', 'dev', ...flags, '--step'];
  return { flags, rotate, certFile, first: sha256(first), renewed: sha256(renewed) };
}

function sha256(certificate: X509Certificate | undefined): string {
  return certificate?.fingerprint256.replaceAll(':', '') ?? '';
}

describe('a renewed certificate for the key in use', () => {
  it('is staged beside the one in use, and can be discarded, or committed', async () => {
    const { rotate, certFile, first, renewed } = await renewal();
    const staged = await succeed([...rotate, 'stage', '--cert-file', certFile]);
    expect(staged.entry.current.certificate?.sha256).toBe(first);
    expect(staged.entry.staged?.certificate?.sha256).toBe(renewed);
    expect(staged.entry.staged?.id).not.toBe(staged.entry.current.id);
    const discarded = await succeed([...rotate, 'discard']);
    expect(discarded.entry).toEqual({ ...staged.entry, staged: undefined });
    await succeed([...rotate, 'stage', '--cert-file', certFile]);
    const committed = await succeed([...rotate, 'commit']);
    expect(committed.entry.current.certificate?.sha256).toBe(renewed);
    expect(committed.entry.staged).toBeUndefined();
  });

  it('is not staged over another one', async () => {
    const { rotate, certFile, first } = await renewal();
    await succeed([...rotate, 'stage', '--kind', 'self-signed']);
    const refused = await keys([...rotate, 'stage', '--cert-file', certFile]);
    expect([refused.status, refused.io.err()]).toEqual([
      EXIT.hsm,
      expect.stringMatching(/has a staged key already.*--step discard --key-name dev/),
    ]);
    const discarded = await succeed([...rotate, 'discard']);
    expect(discarded.entry.current.certificate?.sha256).toBe(first);
  });

  it('replaces the one in use at once when it is imported', async () => {
    const { flags, certFile, renewed } = await renewal();
    const imported = await succeed(['import', '--key-name', 'dev', '--cert-file', certFile, ...flags]);
    expect(imported.entry.current.certificate?.sha256).toBe(renewed);
    expect(imported.entry.staged).toBeUndefined();
  });
});

describe('keys rotate --step stage --cert-file', () => {
  it('gives a staged key the certificate that it waits for', async () => {
    const { flags, rotate, certFile, first } = await renewal();
    const request = join(certFile, '..', 'next.csr');
    await succeed([...rotate, 'stage', '--kind', 'csr', '--write-request', request]);
    const issued = await signRequest(readFileSync(request, 'utf8'));
    writeFileSync(certFile, issued.toString());
    const { entry } = await succeed([...rotate, 'stage', '--cert-file', certFile]);
    expect([entry.current.certificate?.sha256, entry.staged?.certificate?.sha256]).toEqual([first, sha256(issued)]);
    expect((await succeed(['list', ...flags])).entries[0]).toEqual(entry);
  });
});
