import { createPrivateKey, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type X509FileHsmOptions, x509FileHsm } from '../../hsm/x509-file.js';
import type { X509Hsm } from '../../src/core/attestation.js';
import { issueCertificate, makeAuthority, makeSelfSigned, type SelfSignedOptions } from '../../src/emulator/pki.js';
import { describeHsmContract, expectNoSecrets } from '../contracts/hsm.js';
import { encrypt, keySecrets, PASSPHRASE, toPem } from './pem-texts.js';
import { chainOf, device, failureOf, loadFiles, loadTexts, makeFile, middle, other, root } from './x509-bench.js';

const { signal } = new AbortController();

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
