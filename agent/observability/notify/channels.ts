import { createHmac, randomUUID } from 'node:crypto';
import type { Channel, Severity } from '../../config/notify.ts';
import type { HttpRequest } from '../../outbound/http.ts';
import { readSecretFile } from '../../system/secret-file.ts';
import type { Notice } from './notice.ts';

const COLORS: Record<Severity, number> = { info: 0x2ecc71, warning: 0xe67e22, error: 0xe74c3c };
const MARKS: Record<Severity, string> = { info: '✅', warning: '⚠️', error: '❌' };
const PRIORITIES: Record<Severity, number> = { info: 3, warning: 4, error: 5 };

/** Returns the request that sends a notice to a channel. Throws an Error if a secret cannot be read. */
export function requestFor(channel: Exclude<Channel, { type: 'email' }>, notice: Notice): HttpRequest {
  switch (channel.type) {
    case 'discord':
      return json(readSecretFile(channel.url_file), {
        // The output of a container must not mention people.
        allowed_mentions: { parse: [] },
        embeds: [
          {
            title: formatTitle(notice).slice(0, 256),
            description: escapeMarkdown(notice.text).slice(0, 3_000),
            color: COLORS[notice.severity],
            timestamp: notice.at,
            ...(notice.url === undefined ? {} : { url: notice.url }),
            fields: noticeFacts(notice).map(([key, value]) => ({
              name: key,
              value: escapeMarkdown(value).slice(0, 1_000),
              inline: true,
            })),
            footer: { text: notice.agent },
          },
        ],
      });
    case 'slack': {
      const facts = noticeFacts(notice).map(([key, value]) => `*${key}:* ${escapeMrkdwn(value)}`);
      const text = `${MARKS[notice.severity]} ${formatTitle(notice)}`;
      return json(readSecretFile(channel.url_file), {
        text: escapeMrkdwn(text),
        blocks: [
          { type: 'header', text: { type: 'plain_text', text: text.slice(0, 150) } },
          {
            type: 'section',
            text: {
              type: 'mrkdwn',
              text: `${facts.join('   ')}\n${escapeMrkdwn(notice.text)}`.slice(0, 2_900) || ' ',
            },
          },
        ],
      });
    }
    case 'ntfy': {
      const url = new URL(channel.url);
      const [topic = ''] = url.pathname.split('/').slice(-1);
      const message = {
        topic,
        title: formatTitle(notice),
        message: formatText(notice),
        priority: PRIORITIES[notice.severity],
      };
      return json(
        url.origin,
        { ...message, ...(notice.url === undefined ? {} : { click: notice.url }) },
        channel.token_file === undefined ? {} : { Authorization: `Bearer ${readSecretFile(channel.token_file)}` },
      );
    }
    case 'telegram':
      return json(`${channel.api_url}/bot${readSecretFile(channel.token_file)}/sendMessage`, {
        chat_id: channel.chat,
        text: `${MARKS[notice.severity]} ${formatTitle(notice)}\n${formatText(notice)}`.slice(0, 4_000),
        link_preview_options: { is_disabled: true },
      });
    case 'matrix': {
      const path = `/_matrix/client/v3/rooms/${encodeURIComponent(channel.room)}/send/m.room.message/${randomUUID()}`;
      return {
        ...json(
          channel.server.replace(/\/+$/, '') + path,
          { msgtype: 'm.notice', body: `${MARKS[notice.severity]} ${formatTitle(notice)}\n${formatText(notice)}` },
          { Authorization: `Bearer ${readSecretFile(channel.token_file)}` },
        ),
        method: 'PUT',
      };
    }
    case 'webhook': {
      const body = JSON.stringify({ schema_version: 1, ...notice });
      const signature = createHmac('sha256', readSecretFile(channel.secret_file)).update(body).digest('hex');
      const headers = { 'Content-Type': 'application/json', 'X-Chatops-Signature-256': `sha256=${signature}` };
      return { url: channel.url, method: 'POST', headers, body };
    }
    case 'uptime_kuma': {
      const url = new URL(readSecretFile(channel.url_file));
      url.searchParams.set('status', notice.severity === 'error' ? 'down' : 'up');
      url.searchParams.set('msg', formatTitle(notice).slice(0, 200));
      return { url: url.href, method: 'GET' };
    }
    case 'healthchecks': {
      const url = readSecretFile(channel.url_file).replace(/\/+$/, '');
      return {
        url: notice.severity === 'error' ? `${url}/fail` : url,
        method: 'POST',
        body: formatText(notice).slice(0, 10_000),
      };
    }
  }
}

function json(url: string, body: object, headers: Record<string, string> = {}): HttpRequest {
  return {
    url,
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(body),
  };
}

/** Returns the title of a notice: one line. */
export function formatTitle({ headline, title, agent, count }: Notice): string {
  return headline ?? `${agent}: ${title}${count > 1 ? ` (${count} times)` : ''}`;
}

/** Returns the text of a notice, with a line for each fact. */
export function formatText(notice: Notice): string {
  const facts = noticeFacts(notice).map(([key, value]) => `${key}: ${value}`);
  return [notice.text, ...facts, ...(notice.url === undefined ? [] : [notice.url])].filter(Boolean).join('\n');
}

function noticeFacts({ code, stack, run, schedule }: Notice): [string, string][] {
  const facts: [string, string | undefined][] = [
    ['code', code],
    ['stack', stack],
    ['schedule', schedule],
    ['run', run],
  ];
  return facts.filter((fact): fact is [string, string] => fact[1] !== undefined && fact[1] !== '');
}

/** Escapes Markdown, so that the output of a container is shown as it is. */
function escapeMarkdown(text: string): string {
  return text.replace(/[\\`*_{}[\]()#+!|~<>@]/g, char => `\\${char}`);
}

/** Escapes the characters that Slack reads as markup. */
function escapeMrkdwn(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
