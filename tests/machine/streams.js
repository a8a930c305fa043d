// streams.js serve | ask HOST PAGES - an app whose answers begin long before they end, and a browser that asks it
// through Caddy, over HTTP/1.1 and HTTP/2. PAGES: packed, or plain where Caddy cannot pack what it passes on at once.
'use strict';
const http = require('http'), http2 = require('http2'), https = require('https'), zlib = require('zlib');
const GAP = 4000, SOON = 2000; // what is held back comes a whole gap late
const BROWSER = 'gzip, deflate, br, zstd';

const over = {
  'HTTP/1.1': (host, path, headers, heard) => {
    https.get({ host: '127.0.0.1', servername: host, path, headers: { host, ...headers }, rejectUnauthorized: false, agent: false },
      (answer) => heard(answer.headers, answer)).on('error', (error) => heard({}, null, error));
  },
  'HTTP/2': (host, path, headers, heard) => {
    const session = http2.connect('https://127.0.0.1', { servername: host, rejectUnauthorized: false });
    session.on('error', (error) => heard({}, null, error));
    const stream = session.request({ ':path': path, ':authority': host, ...headers });
    stream.on('response', (found) => heard(found, stream)).on('close', () => session.close());
  },
};

function check(version, host, query, accept, wanted) {
  return new Promise((resolve, reject) => {
    const name = `${query} over ${version} with ${accept}`;
    const path = '/?' + query;
    over[version](host, path, { 'accept-encoding': accept }, (headers, body, error) => {
      if (error) return reject(new Error(`${name}: ${error.message}`));
      const packed = headers['content-encoding'];
      if (wanted === 'packed' ? !packed : packed) return reject(new Error(`${name}: content-encoding is ${packed}`));
      const late = [];
      const note = (what, at) => { const took = Date.now() - Number(at); if (took > SOON) late.push(`${what} ${took} ms late`); };
      if (headers['x-at'] && !query.includes('sized')) note('head', headers['x-at']);
      let text = '', found = 0;
      const plain = packed === 'gzip' ? body.pipe(zlib.createGunzip()) : body;
      plain.on('data', (piece) => {
        text += piece;
        const times = [...text.matchAll(/data: (\d+);/g)].map((match) => match[1]);
        times.slice(found).forEach((at, n) => note(`event ${found + n + 1}`, at));
        found = times.length;
      });
      plain.on('end', () => {
        if (!query.includes('whole') && found !== 2) late.push(`${found} events came`);
        late.length ? reject(new Error(`${name}: ${late.join(', ')}`)) : resolve();
      });
    });
  });
}

async function ask(host, pages) {
  const checks = [];
  for (const version of Object.keys(over)) {
    const one = (query, accept, wanted) => checks.push(check(version, host, query, accept, wanted));
    for (const type of ['text/event-stream', 'text/event-stream;charset=utf-8', 'application/x-ndjson', 'application/json', 'text/plain']) {
      for (const accept of ['gzip', BROWSER, 'identity']) {
        for (const first of [0, 4000]) one(`type=${type}&first=${first}`, accept, 'plain');
      }
      // Caddy packs no NDJSON, whatever its length.
      if (!type.includes('ndjson')) one(`type=${type}&whole=sized`, BROWSER, 'packed');
    }
    // An answer that says its length and takes its time: what Caddy does not pack anyway flows too.
    one('type=video/mp4&first=10&sized=1', BROWSER, 'plain');
    for (const type of ['text/css', 'application/javascript;charset=utf-8', 'image/svg%2Bxml']) one(`type=${type}&whole=chunked`, BROWSER, 'packed');
    one('type=text/html&whole=chunked', BROWSER, pages);
    one('type=text/html&first=4000', 'gzip', pages);
  }
  const failed = (await Promise.allSettled(checks)).filter((one) => one.status === 'rejected');
  if (failed.length) throw new Error(failed.map((one) => one.reason.message).join('\n'));
}

if (process.argv[2] === 'serve') {
  http.createServer((request, answer) => {
    const { searchParams: asked } = new URL(request.url, 'http://app');
    const type = asked.get('type') || 'text/plain';
    if (asked.has('whole')) {
      const body = 'all at once '.repeat(1000);
      if (asked.get('whole') === 'sized') answer.setHeader('content-length', body.length);
      answer.setHeader('content-type', type);
      answer.write(body);
      return answer.end();
    }
    const first = Number(asked.get('first')), events = 2, size = 80;
    const length = asked.has('sized') ? { 'content-length': first + events * size } : {};
    answer.writeHead(200, { 'content-type': type, 'x-at': Date.now(), ...length });
    answer.flushHeaders();
    if (first) answer.write('.'.repeat(first));
    for (let n = 1; n <= events; n++) {
      setTimeout(() => {
        answer.write(`\ndata: ${Date.now()};`.padEnd(size, '.'));
        if (n === events) answer.end();
      }, n * GAP);
    }
  }).listen(Number(process.env.PORT), '127.0.0.1');
} else {
  ask(process.argv[3], process.argv[4]).then(() => console.log('all flows'), (error) => {
    console.error(error.message);
    process.exit(1);
  });
}
