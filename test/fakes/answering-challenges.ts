import type { DpsChallenge, DpsCredential, DpsTransport } from '../../src/core/transport.js';

type TpmCredential = Extract<DpsCredential, { kind: 'tpm' }>;

/**
 * The way of a TPM through its challenge as one `open`, so that what holds for transports is asked of it as a whole. Every
 * other credential than a certificate is replaced.
 */
export function answeringChallenges(
  transport: DpsTransport,
  credential: TpmCredential,
  onChallenge: (challenge: DpsChallenge) => void = () => {},
): DpsTransport {
  return {
    name: transport.name,
    open: async (parameters, signal) => {
      if (parameters.credential.kind === 'x509') return transport.open(parameters, signal);
      const challenged = await transport.open({ ...parameters, credential }, signal);
      try {
        const answer = await challenged.exchange({ kind: 'register', body: new Uint8Array(0) }, signal);
        // Turned away already: it says so again.
        if (answer.kind === 'reply') return challenged;
        onChallenge(answer);
        const token = 'SharedAccessSignature sr=top-secret&sig=hush';
        const connection = await transport.open(
          { ...parameters, credential: { ...credential, token }, challenged },
          signal,
        );
        await challenged.close();
        return connection;
      } catch (error) {
        await challenged.close();
        throw error;
      }
    },
  };
}
