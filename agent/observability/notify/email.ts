import type { Channel } from '../../config/notify.ts';
import { readSecretFile } from '../../system/secret-file.ts';

type EmailChannel = Extract<Channel, { type: 'email' }>;

/** Sends a mail by SMTP. Throws an Error, with the server's `responseCode` if it rejected the mail. */
export async function sendMail(
  channel: EmailChannel,
  { subject, text }: { subject: string; text: string },
  timeout: number,
): Promise<void> {
  const { host, port, user, password_file, tls } = channel.smtp;
  // Loaded only for the first mail: most agents send none.
  const { createTransport } = await import(/* webpackMode: "eager" */ 'nodemailer');
  const transport = createTransport({
    host,
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    ...(user === undefined
      ? {}
      : { auth: { user, pass: password_file === undefined ? '' : readSecretFile(password_file) } }),
    connectionTimeout: timeout,
    greetingTimeout: timeout,
    socketTimeout: timeout,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  try {
    await transport.sendMail({ from: channel.from, to: channel.to, subject, text });
  } finally {
    transport.close();
  }
}

/** Returns the title in one line, so that the output of a container cannot add headers. */
export function formatSubject(title: string): string {
  return title.replace(/\s+/g, ' ').slice(0, 200);
}
