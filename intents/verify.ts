import { z } from 'zod';
import { Duration } from './duration.ts';
import { Service } from './fields.ts';

const Retries = z.int().min(0).max(1000);
const Status = z.int().min(100).max(599);

const Http = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/, error: 'Expected an address such as "http://127.0.0.1:8080/health"' })
      .max(2048)
      .refine(text => !URL.canParse(text) || (new URL(text).username === '' && new URL(text).password === ''), {
        error: 'Expected an address without user and password',
      })
      .describe('The address. The name of a service as host means each of its containers.'),
    status: z
      .union([Status, z.array(Status).min(1).max(20)])
      .optional()
      .describe('The expected status, or a list of accepted ones. Default: 200.'),
    body: z.string().min(1).max(1024).optional().describe('A text that the answer must contain.'),
    timeout: Duration.optional().describe('The time limit of each attempt. Default: 5s.'),
    retries: Retries.optional().describe('The number of attempts after the first one, one second apart. Default: 10.'),
  })
  .describe('Requests an address (GET) and checks the answer.');

const Tcp = z
  .strictObject({
    address: z
      .string()
      .regex(
        /^(\[[0-9a-fA-F:]{2,45}\]|[A-Za-z0-9][A-Za-z0-9_.-]{0,252}):\d{1,5}$/,
        'Expected host and port: "127.0.0.1:5432"',
      )
      .refine(text => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, {
        error: 'Expected a port of at most 65535',
      })
      .describe('Host and port. The name of a service as host means each of its containers.'),
    timeout: Duration.optional().describe('The time limit of each attempt. Default: 5s.'),
    retries: Retries.optional().describe('The number of attempts after the first one, one second apart. Default: 10.'),
  })
  .describe('Opens a connection.');

/** Checks that must pass after the change before it counts as done. */
export const Verify = z
  .strictObject({
    healthy: z
      .array(Service)
      .min(1)
      .max(100)
      .optional()
      .describe('Services that must have a health check and pass it.'),
    settle: Duration.optional().describe(
      'The time during which no container may restart, stop or become unhealthy. For example 30s.',
    ),
    tcp: z
      .union([Tcp, z.array(Tcp).min(1).max(20)])
      .optional()
      .describe('One address that must accept connections, or a list.'),
    http: z
      .union([Http, z.array(Http).min(1).max(20)])
      .optional()
      .describe('One address that must answer, or a list.'),
  })
  .refine(verify => Object.values(verify).some(value => value !== undefined), {
    error: 'Expected at least one of healthy, settle, tcp and http',
  })
  .describe('Checks after the change, in this order: healthy, settle, tcp, http.');
export type Verify = z.infer<typeof Verify>;

/** Lists the hosts that the checks name, for the policy. */
export function listVerifyHosts(verify: Verify): string[] {
  const http = [verify.http ?? []].flat().map(({ url }) => new URL(url).hostname);
  const tcp = [verify.tcp ?? []].flat().map(({ address }) => address.slice(0, address.lastIndexOf(':')));
  return [...http, ...tcp].map(host => host.replace(/^\[|\]$/g, ''));
}
