import { z } from 'zod';
import { Duration } from '../../intents/duration.ts';
import { FILTERS } from '../../intents/filters.ts';
import { suggestNearest } from '../../intents/suggest.ts';
import { listExpressions, parseExpression } from '../../intents/template.ts';
import { SecretFile } from './backups.ts';
import { explainInvalidCron } from './schedules.ts';
import { parseWindow } from './time-windows.ts';
import { ConfigName, NamePattern } from './trust.ts';

/** Events that a channel can be notified of. */
export const NOTICE_EVENTS = [
  'succeeded',
  'failed',
  'rolled-back',
  'cancelled',
  'interrupted',
  'refused',
  'auth-failure',
  'address-refused',
  'label-mismatch',
  'schedule-failed',
] as const;
export type NoticeEvent = (typeof NOTICE_EVENTS)[number];

export const SEVERITIES = ['info', 'warning', 'error'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** Fields of a notice that a template can use. */
const FIELDS = [
  'event',
  'severity',
  'agent',
  'at',
  'title',
  'text',
  'code',
  'stack',
  'run',
  'schedule',
  'url',
  'count',
] as const;
export type Field = (typeof FIELDS)[number];
const TemplateText = z
  .string()
  .min(1)
  .max(2000)
  .superRefine((text, context) => {
    for (const expression of listExpressions(text)) {
      const { name = '', filters = [] } = parseExpression(expression) ?? {};
      const isField = FIELDS.some(field => field === name);
      if (isField && filters.every(filter => FILTERS.includes(filter.name))) continue;
      const near = isField ? undefined : suggestNearest(name, FIELDS);
      context.addIssue({
        code: 'custom',
        message: near
          ? `"{{ ${expression} }}" is not known; did you mean {{ ${near} }}?`
          : `"{{ ${expression} }}" is not known. Known: ${FIELDS.join(', ')}; filters: ${FILTERS.join(', ')}`,
      });
    }
  });

/** A text of its own for a notice: `{{ agent }}`, `{{ stack | default: "this host" }}`. */
export const Template = z
  .strictObject({
    title: TemplateText.optional().describe('Replaces "AGENT: TITLE".'),
    text: TemplateText.optional(),
  })
  .describe(
    'Replaces the text of a notice. Fields: {{ event }}, {{ severity }}, {{ agent }}, {{ title }}, {{ text }}, {{ code }}, {{ stack }}, {{ run }}, {{ schedule }}, {{ url }}, {{ count }}, {{ at }}.',
  );
export type Template = z.infer<typeof Template>;

/** The times at which a channel gets all its notices together. */
export const Digest = z
  .strictObject({
    cron: z.string().min(1).max(200).describe('"0 8 * * *": minute, hour, day, month, weekday.'),
    timezone: z.string().default('UTC'),
  })
  .refine(({ cron, timezone }) => explainInvalidCron(cron, timezone) === undefined, {
    error: 'Expected a time that comes, such as {cron: "0 8 * * *", timezone: Europe/Berlin}',
  })
  .describe('Sends all notices together at these times, instead of one by one.');
export type Digest = z.infer<typeof Digest>;

const name = ConfigName.describe('The name that rules use.');
/** Options of every channel that people read. */
const readable = { name, template: Template.optional(), digest: Digest.optional() };

const UrlFile = SecretFile.describe('Its first line is the address, which is a secret.');
const Url = z.url({ protocol: /^https?$/ });

/** A channel for notices. Secret addresses and tokens come from files. */
export const Channel = z.discriminatedUnion('type', [
  z.strictObject({ ...readable, type: z.literal('discord'), url_file: UrlFile }),
  z.strictObject({ ...readable, type: z.literal('slack'), url_file: UrlFile }),
  z.strictObject({
    ...readable,
    type: z.literal('ntfy'),
    url: Url.describe('https://ntfy.sh/topic'),
    token_file: SecretFile.optional(),
  }),
  z.strictObject({
    ...readable,
    type: z.literal('telegram'),
    token_file: SecretFile,
    chat: z.string().min(1).max(100),
    api_url: Url.default('https://api.telegram.org'),
  }),
  z.strictObject({
    ...readable,
    type: z.literal('matrix'),
    server: Url.describe('https://matrix.example.org'),
    room: z.string().regex(/^!/, 'Expected a room’s id: "!abc:example.org"'),
    token_file: SecretFile,
  }),
  z.strictObject({
    ...readable,
    type: z.literal('webhook'),
    url: Url,
    secret_file: SecretFile.describe('Signs the body: X-Chatops-Signature-256.'),
  }),
  z.strictObject({
    ...readable,
    type: z.literal('email'),
    smtp: z.strictObject({
      host: z.string().regex(/^[\w.-]+$/, 'Expected a host’s name or address'),
      port: z.int().min(1).max(65535).default(587),
      tls: z.enum(['starttls', 'implicit', 'none']).default('starttls'),
      user: z.string().min(1).max(254).optional(),
      password_file: SecretFile.optional(),
    }),
    from: z.email(),
    to: z.array(z.email()).min(1).max(20),
  }),
  z.strictObject({ name, type: z.literal('uptime_kuma'), url_file: UrlFile }),
  z.strictObject({ name, type: z.literal('healthchecks'), url_file: UrlFile }),
]);
export type Channel = z.infer<typeof Channel>;

/** `notify` of agent.yaml: channels, and which notices each gets. */
export const NotifyConfig = z
  .strictObject({
    channels: z.array(Channel).default([]),
    rules: z
      .array(
        z.strictObject({
          channels: z.array(ConfigName).min(1),
          on: z.array(z.enum(NOTICE_EVENTS)).min(1).optional().describe('Which events. Default: all.'),
          stacks: z.array(NamePattern).min(1).optional().describe('Only notices about one of these stacks.'),
          min_severity: z.enum(SEVERITIES).optional(),
        }),
      )
      .default([]),
    fold: Duration.default('1h').describe(
      'The agent counts repeats of a problem within this time, and sends no notice.',
    ),
    quiet_hours: z
      .string()
      .refine(text => parseWindow(text) !== undefined, { error: 'Expected "22:00-07:00 Europe/Berlin"' })
      .optional()
      .describe('In this time the agent sends only errors; other notices wait until its end.'),
  })
  .default({ channels: [], rules: [], fold: '1h' })
  .describe('Channels for notices, and which notices each gets.');
export type NotifyConfig = z.infer<typeof NotifyConfig>;
