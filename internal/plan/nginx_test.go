package plan

import (
	"fmt"
	"reflect"
	"testing"
)

func TestNginx(t *testing.T) {
	got := forwards(parseNginx(`
# a comment { with a brace
events { worker_connections 10; }
http {
  upstream accounts { server 10.0.0.1:30080 weight=2; server 10.0.0.2:30080; keepalive 4; }
  map $http_upgrade $connection_upgrade { default upgrade; '' close; }
  server {
    listen 443 ssl;
    server_name www.example.com "api.example.com" ~^x(.+)$;
    location /accounts { proxy_pass http://accounts; }
    location = /exact { proxy_pass http://10.0.0.3:80; }
    location ~ \.php$ { proxy_pass http://10.0.0.4:80; }
    location /old/ { proxy_pass http://10.0.0.5:80/new/; }
    location / {
      location /deep { proxy_pass http://10.0.0.6:80; }
      set $a "${b}; {";
      return 404;
    }
  }
}`))
	hosts := []string{"www.example.com", "api.example.com"}
	want := []forward{
		{hosts: hosts, path: "/accounts", servers: []string{"10.0.0.1:30080", "10.0.0.2:30080"}, tls: true},
		{hosts: hosts, path: "/exact", exact: true, servers: []string{"10.0.0.3:80"}, tls: true},
		{hosts: hosts, path: `\.php$`, pattern: true, servers: []string{"10.0.0.4:80"}, tls: true},
		{hosts: hosts, path: "/old/", servers: []string{"10.0.0.5:80"}, rewritten: true, tls: true},
		{hosts: hosts, path: "/deep", servers: []string{"10.0.0.6:80"}, tls: true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it is read as\n%s", fmt.Sprintf("%+v", got))
	}
}

func FuzzNginx(f *testing.F) {
	for _, text := range []string{"", "a b;", "http { server { location / { proxy_pass http://a:1; } } }", "upstream x { server a; ", "\"", "'\\", "${", "{{{{", "}}}", "a\\"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, l := range forwards(parseNginx(text)) {
			if len(l.servers) == 0 {
				t.Error("a place leads nowhere")
			}
		}
	})
}
