file { '/etc/postfix/master.cf':
  ensure => file,
  owner  => 'root',
  group  => 'root',
  mode   => '0644',
  source => '/usr/local/share/postfix/master.cf',
  backup => false,
}

service { 'postfix':
  ensure    => running,
  subscribe => File['/etc/postfix/master.cf'],
}
