/** SAS tokens as the different clients make them, written out from the protocol reference. */
import { createHmac } from 'node:crypto';

/** The worked example's key and the group key of the reference. */
export const DEVICE_KEY = '18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==';
export const OTHER_KEY = 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMw==';
export const GROUP_KEY = '8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==';

export function hmacBase64(key: string, text: string): string {
  return createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
}

/** The usual form: everything percent-encoded, `skn` last. */
export function dpsToken(idScope: string, registrationId: string, key: string, expirySeconds: number): string {
  const resource = encodeURIComponent(`${idScope}/registrations/${registrationId}`);
  const signature = encodeURIComponent(hmacBase64(key, `${resource}\n${expirySeconds}`));
  return `SharedAccessSignature sr=${resource}&sig=${signature}&se=${expirySeconds}&skn=registration`;
}

export function hubToken(host: string, deviceId: string, key: string, expirySeconds: number): string {
  const resource = encodeURIComponent(`${host}/devices/${deviceId}`);
  const signature = encodeURIComponent(hmacBase64(key, `${resource}\n${expirySeconds}`));
  return `SharedAccessSignature sr=${resource}&sig=${signature}&se=${expirySeconds}`;
}
