import {
  type CertificateAuthority,
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
} from '../../src/emulator/pki.js';

/** The authority of a group, and the chain of its device `x-1`, which an intermediate has issued. */
export async function makeFleet(
  nowMs: number,
): Promise<{ readonly authority: CertificateAuthority; readonly leaf: IssuedCertificate }> {
  const authority = await makeAuthority({ commonName: 'Fleet CA', nowMs });
  const intermediate = await makeAuthority({ commonName: 'Factory 7', issuer: authority, nowMs });
  return { authority, leaf: await issueCertificate(intermediate, { commonName: 'x-1', usage: 'client', nowMs }) };
}
