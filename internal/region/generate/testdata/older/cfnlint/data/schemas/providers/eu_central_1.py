types: dict[str, str] = {
    "AWS::EC2::VPC": "0123456789abcdef",
}
