/** A raw HTTPS request, with whatever a test wants in it. */
import type { IncomingHttpHeaders, RequestOptions } from 'node:http';
import { request } from 'node:https';

export interface HttpsReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly json: unknown;
}

/** `target` is `host:port`. Rejects when the connection breaks. */
export function askHttps(
  target: string,
  caPem: string,
  method: string,
  path: string,
  options: Pick<RequestOptions, 'headers'> & { body?: string | Buffer; cert?: string; key?: string } = {},
): Promise<HttpsReply> {
  const url = new URL(`https://${target}`);
  const hostname = url.hostname.replace(/[[\]]/g, '');
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { hostname, port: url.port, path, method, ca: caPem, agent: false, ...rest },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('error', reject);
        incoming.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text, json: tryParse(text) });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
