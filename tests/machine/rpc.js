// rpc.js serve | ask HOST - a server that speaks HTTP/2 without TLS and nothing else, as gRPC servers do: it answers each
// piece of a request as it comes, and ends with a trailer. And a client that talks with it through Caddy.
'use strict';
const http2 = require('http2');

function serve() {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    if (headers[':path'] === '/up') {
      stream.respond({ ':status': headers[':authority'] === 'rpc.example.com' ? 204 : 400 });
      return stream.end();
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.on('data', (piece) => stream.write(`echo ${piece}`));
    stream.on('end', () => stream.end());
    stream.on('error', () => {});
  });
  server.listen(Number(process.env.PORT), '127.0.0.1');
  process.on('SIGTERM', () => process.exit(0));
}

function ask(host) {
  const session = http2.connect('https://127.0.0.1', { servername: host, rejectUnauthorized: false });
  const stream = session.request({ ':method': 'POST', ':path': '/talk', ':authority': host, 'content-type': 'application/grpc', te: 'trailers' });
  const heard = [];
  const fail = (what) => { console.error(what, heard); process.exit(1); };
  setTimeout(() => fail('it took too long'), 20000).unref();
  stream.on('response', (headers) => { if (headers[':status'] !== 200) fail(`answered ${headers[':status']}`); });
  stream.on('error', (error) => fail(error.message));
  stream.on('data', (piece) => {
    // The second word goes out only when the first came back: both ways flow at once.
    heard.push(String(piece));
    if (heard.length === 1) stream.write('two');
    if (heard.length === 2) stream.end();
  });
  stream.on('trailers', (trailers) => heard.push(`status ${trailers['grpc-status']}`));
  stream.on('close', () => {
    if (heard.join() !== 'echo one,echo two,status 0') fail('it said');
    console.log('they talked');
    process.exit(0);
  });
  stream.write('one');
}

process.argv[2] === 'serve' ? serve() : ask(process.argv[3]);
